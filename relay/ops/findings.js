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
  if (breaker && breaker.state !== "closed") return { code: "breaker", host: breaker.host, seconds: breaker.next_try_s };
  if (waits) return { code: "waits", reason: waits.reason, seconds: waits.seconds };
  const cursors = account.cursors.filter((cursor) => isOptOut(cursor.operation) === optOut);
  const trying = cursors.find((cursor) => cursor.why);
  if (trying) return { code: "why", why: trying.why };
  if (!optOut && account.cursors.some((cursor) => isOptOut(cursor.operation) && cursor.pending)) return { code: "behind" };
  const open = cursors.find((cursor) => cursor.batch_id !== null);
  if (open) return { code: "open", batch: open.batch_id, state: open.batch_state };
  return login.uploading_batch ? { code: "turn", batch: login.uploading_batch } : { code: "due" };
}

/** Find all that somebody should know, the worst first: `{ key, tone, kind, … }`. */
export function findings({ logins, accounts, unresolved }) {
  const byName = new Map(logins.map((login) => [login.name, login]));
  const late = (optOut) =>
    accounts
      .filter((account) => lateBy(account, optOut))
      .sort((one, other) => lateBy(other, optOut) - lateBy(one, optOut))
      .map((account) => ({
        key: `${optOut ? "opt-outs" : "data"} ${account.name}`,
        tone: optOut ? "bad" : "warn",
        kind: optOut ? "opt_outs_late" : "data_late",
        account,
        seconds: optOut ? account.oldest_unsettled.opt_out_s : account.oldest_unsettled.data_s,
        cause: cause(account, byName.get(account.login), optOut),
      }));
  const of = (login, tone, kind) => ({ key: `${kind} ${login.name}`, tone, kind, login });
  const found = [
    ...late(true),
    ...logins.filter((login) => login.paused?.holds).map((login) => of(login, "bad", "paused")),
    ...logins.filter((login) => login.waits?.reason === "logins_refused").map((login) => of(login, "bad", "logins_refused")),
    ...logins.filter((login) => login.breaker && login.breaker.state !== "closed").map((login) => of(login, "warn", "breaker")),
    ...logins.filter((login) => login.refused_settings).map((login) => of(login, "warn", "refused_settings")),
  ];
  if (unresolved?.count) found.push({ key: "unresolved", tone: "warn", kind: "unresolved", ...unresolved });
  found.push(...late(false));
  for (const account of accounts) {
    const check = account.check;
    if (account.dead_letters) found.push({ key: `dead ${account.name}`, tone: "warn", kind: "dead_letters", account });
    if (check?.fingerprint_current && ["columns", "unauthorized"].includes(check.result)) {
      found.push({ key: `check ${account.name}`, tone: "warn", kind: "check", account });
    }
  }
  found.push(...logins.filter((login) => login.quota.why).map((login) => of(login, "calm", "quota")));
  return found;
}
