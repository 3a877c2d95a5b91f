/* What is late and why: found in what relay tells of its logins and accounts. Nothing here touches the page.

   An event is late when it is older than the time after which its files are cut (`flush_after`) and some more, as in
   the alerts RelayOptOutLate and RelayDataLate: short for opt-outs, because nobody who opted out may be mailed
   meanwhile; longer for data, which may have to wait for the vendor's calls. */

const OPT_OUTS_LATE_AFTER_S = 300;
const DATA_LATE_AFTER_S = 3600;
const OPT_OUTS = ["delete", "stop", "ban"];
const DATA_PAUSES = ["columns", "data"];

/** Whether an operation is an opt-out. */
export function isOptOut(operation) {
  return OPT_OUTS.includes(operation);
}

/** Whether nothing is sent to a login's host for now. One that is `half_open` may have had nothing to answer since. */
export function isAway(login) {
  return login.breaker?.state === "open";
}

/** How many seconds late an account's opt-outs (or other events) are; 0 when they are not. */
export function lateBy(account, optOut) {
  const age = optOut ? account.oldest_unsettled.opt_out_s : account.oldest_unsettled.data_s;
  const after = optOut
    ? account.flush_after.opt_out_s + OPT_OUTS_LATE_AFTER_S
    : account.flush_after.data_s + DATA_LATE_AFTER_S;
  return age === null || age <= after ? 0 : age - after;
}

/** Say what holds up an account's opt-outs or data: `{ code, … }`, the first that applies, as relay itself decides. */
export function cause(account, login, optOut) {
  if (!login) return { code: "no_login" };
  const { paused, refused_settings: refused, waits, breaker } = login;
  if (paused?.holds && !(optOut && DATA_PAUSES.includes(paused.reason))) return { code: "paused", paused };
  if (refused && !(optOut && refused.data_only)) return { code: "refused_settings", seconds: refused.seconds };
  if (isAway(login)) return { code: "breaker", host: breaker.host, seconds: breaker.next_try_s };
  if (waits) return { code: "waits", reason: waits.reason, seconds: waits.seconds };
  const cursors = account.cursors.filter((cursor) => isOptOut(cursor.operation) === optOut);
  const trying = cursors.find((cursor) => cursor.why);
  if (trying) return { code: "why", why: trying.why };
  if (!optOut && account.cursors.some((cursor) => isOptOut(cursor.operation) && cursor.pending)) return { code: "behind" };
  const open = cursors.find((cursor) => cursor.batch_id !== null);
  if (open) return { code: "open", batch: open.batch_id, state: open.batch_state };
  return login.uploading_batch ? { code: "turn", batch: login.uploading_batch } : { code: "due" };
}

/** Find all that somebody should know, the worst first: `{ key, tone, kind, … }`; those of a kind stand together.

   What has one cause is one finding, however many accounts it concerns: those of a login that are late for the same
   reason (`accounts`, the latest first), those of a login with dead letters, and the `logins` of a host that is away. */
export function findings({ logins, accounts, unresolved }) {
  const byName = new Map(logins.map((login) => [login.name, login]));
  const of = (tone, kind, some) => some.map((login) => ({ key: `${kind} ${login.name}`, tone, kind, login }));
  return [
    ...of("bad", "paused", logins.filter((login) => login.paused?.holds)),
    ...of("bad", "logins_refused", logins.filter((login) => login.waits?.reason === "logins_refused")),
    ...late(accounts, byName, true),
    ...away(logins),
    ...of("warn", "refused_settings", logins.filter((login) => login.refused_settings)),
    ...(unresolved?.count ? [{ key: "unresolved", tone: "warn", kind: "unresolved", ...unresolved }] : []),
    ...late(accounts, byName, false),
    ...dead(accounts),
    ...accounts.filter(misfits).map((account) => ({ key: `check ${account.name}`, tone: "warn", kind: "check", account })),
    ...of("calm", "quota", logins.filter((login) => login.quota.why)),
  ];
}

function late(accounts, byName, optOut) {
  const kind = optOut ? "opt_outs_late" : "data_late";
  const found = accounts
    .filter((account) => lateBy(account, optOut))
    .sort((one, other) => lateBy(other, optOut) - lateBy(one, optOut))
    .map((account) => ({ account, cause: cause(account, byName.get(account.login), optOut) }));
  return grouped(found, (one) => `${one.account.login} ${alike(one.cause)}`).map(([key, group]) => ({
    key: `${kind} ${key}`,
    about: `${kind} ${group[0].account.login}`, // it is no news when something else holds it up
    tone: optOut ? "bad" : "warn",
    kind,
    login: group[0].account.login,
    accounts: group.map((one) => one.account),
    seconds: Math.max(...group.map(({ account }) => (optOut ? account.oldest_unsettled.opt_out_s : account.oldest_unsettled.data_s))),
    cause: group[0].cause,
  }));
}

/* What tells causes apart: numbers of batches, counts of attempts and durations do not. */
function alike({ code, reason, why }) {
  return [code, reason, why?.replace(/\d+ (?:s|min|h|failed attempts?)\b|\d+/g, "#")].join(" ");
}

function away(logins) {
  return grouped(logins.filter(isAway), (login) => login.breaker.host).map(([host, some]) => ({
    key: `breaker ${host}`,
    tone: "warn",
    kind: "breaker",
    host,
    logins: some,
    seconds: Math.min(...some.map((login) => login.breaker.next_try_s)),
  }));
}

function dead(accounts) {
  return grouped(accounts.filter((account) => account.dead_letters), (account) => account.login).map(([login, some]) => ({
    key: `dead ${login}`,
    tone: "warn",
    kind: "dead_letters",
    login,
    accounts: some,
    count: some.reduce((sum, account) => sum + account.dead_letters, 0),
  }));
}

function misfits({ check }) {
  return check?.fingerprint_current && ["columns", "unauthorized"].includes(check.result);
}

/** Group things by a key that each gives, in the order in which the keys come: `[[key, things], …]`. */
export function grouped(things, keyOf) {
  const groups = new Map();
  for (const thing of things) {
    const key = keyOf(thing);
    if (groups.has(key)) groups.get(key).push(thing);
    else groups.set(key, [thing]);
  }
  return [...groups];
}
