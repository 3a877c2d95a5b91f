/* The first thing on the page: is anything late, lost or held up, and why. */

import { ask, path } from "./api.js";
import { bdi, button, el, lay } from "./dom.js";
import { desk, tell } from "./desk.js";
import { findings, grouped } from "./findings.js";
import { showBatch } from "./batch.js";
import { filterBatches } from "./batches.js";
import { showLane } from "./lanes.js";
import { duration, english, moment, number, t, word } from "./words.js";

/* So many of a kind are shown unless somebody unfolds them, so that every kind is seen. */
const KIND_SHOWN_MAX = 5;

const unfolded = new Set();
let before = "";

/** Look at all logins and accounts, and at the opt-outs that wait for an address. */
export async function load() {
  const [logins, accounts] = await Promise.all([ask(path(["logins"])), ask(path(["accounts"]))]);
  desk.logins = logins.logins;
  desk.accounts = accounts.accounts;
}

/** Forget what was shown. */
export function clear() {
  before = "";
  unfolded.clear();
  lay(document.getElementById("verdict"));
}

/** Show the verdict, and read it aloud when it has changed. */
export function show() {
  if (!desk.logins || !desk.accounts) return;
  const found = findings({ logins: desk.logins, accounts: desk.accounts, unresolved: desk.unresolved });
  const pressing = found.filter((one) => one.tone !== "calm");
  const tone = pressing.some((one) => one.tone === "bad") ? "bad" : pressing.length ? "warn" : "good";
  const headline = verdict(found, pressing);
  lay(
    document.getElementById("verdict"),
    el(
      "div",
      { class: `verdict ${tone}` },
      el("p", { class: "headline" }, headline),
      el("p", { class: "waiting" }, waiting()),
      found.length > 0 && el("ul", { class: "findings" }, grouped(found, (one) => one.kind).map(([kind, some]) => ofKind(kind, some))),
    ),
  );
  document.title = pressing.length ? `(${pressing.length}) relay` : "relay";
  const told = [headline, ...new Set(found.map((one) => one.about ?? one.key))].join();
  if (before && told !== before) tell(headline, tone);
  before = told;
}

function ofKind(kind, some) {
  const open = unfolded.has(kind);
  const fold = () => {
    if (!unfolded.delete(kind)) unfolded.add(kind);
    show();
  };
  const left = some.length - KIND_SHOWN_MAX;
  return [
    (open ? some : some.slice(0, KIND_SHOWN_MAX)).map((one) => el("li", { key: one.key, class: one.tone }, line(one))),
    left > 0 &&
      el("li", { key: `more ${kind}`, class: "more" }, button(open ? t("fewer_findings") : t("more_findings", number(left)), fold, { class: "link", "aria-expanded": String(open) })),
  ];
}

/** Forget what was said last, so that a change of language is not told as news. */
export function unsay() {
  before = "";
}

function verdict(found, pressing) {
  const count = (kind) => found.filter((one) => one.kind === kind).reduce((sum, one) => sum + (one.accounts?.length ?? 1), 0);
  const parts = [
    ["opt_outs_late", "verdict.opt_outs"],
    ["paused", "verdict.paused"],
    ["data_late", "verdict.data"],
  ].filter(([kind]) => count(kind));
  const named = parts.map(([kind, name]) => t(name, number(count(kind)), count(kind)));
  const others = pressing.filter((one) => !parts.some(([kind]) => kind === one.kind)).length;
  if (others) named.push(t(parts.length ? "verdict.besides" : "verdict.others", number(others), others));
  return named.length ? t("verdict.all", named) : t("verdict.well");
}

/* What is not cut is only a part of what is not settled: the rest is in files, or among what needs a decision. */
function waiting() {
  const { accounts, unresolved } = desk;
  const pending = accounts.reduce((sum, account) => sum + account.pending, 0);
  const ages = accounts.flatMap((account) => Object.values(account.oldest_unsettled)).filter((age) => age !== null);
  const settled = accounts.every((account) => !account.dead_letters && account.cursors.every((cursor) => cursor.batch_id === null));
  if (!pending && !ages.length && settled && unresolved?.count === 0) return t("nothing_waits");
  const left = t("left_to_cut", number(pending), pending);
  return ages.length ? t("and_oldest", left, duration(Math.max(...ages))) : t("and_no_age", left);
}

function line(one) {
  const lane = one.login?.name && toLane(one.login.name);
  switch (one.kind) {
    case "opt_outs_late":
    case "data_late":
      return [
        one.accounts.length === 1
          ? t(`finding.${one.kind}`, toLane(one.login, one.accounts[0].name), duration(one.seconds))
          : t(`finding.${one.kind}_many`, toLane(one.login), duration(one.seconds), number(one.accounts.length)),
        t("colon"),
        because(one.cause, one.accounts.length),
      ];
    case "paused":
      return [lane, " ", t("finding.paused", word("pause", one.login.paused.reason)), detail(one.login.paused.detail), since(one.login.paused.since)];
    case "logins_refused":
      return [lane, " ", t("finding.logins_refused", duration(one.login.waits.seconds))];
    case "breaker":
      return t("finding.breaker", one.logins.length === 1 ? toLane(one.logins[0].name) : null, number(one.logins.length), duration(one.seconds), bdi(one.host));
    case "refused_settings":
      return [lane, " ", t("finding.refused_settings", duration(one.login.refused_settings.seconds))];
    case "quota":
      return [lane, " ", t("finding.quota"), t("colon"), english(one.login.quota.why)];
    case "unresolved":
      return el("a", { href: "#unresolved-title" }, t("finding.unresolved", number(one.count), one.more, one.count));
    case "dead_letters":
      return one.accounts.length === 1
        ? t("finding.dead_letters", toBatches(one.accounts[0].name), number(one.count), one.count)
        : t("finding.dead_letters_many", toLane(one.login), number(one.count), number(one.accounts.length));
    default:
      return [toLane(one.account.login, one.account.name), " ", t(`finding.check_${one.account.check.result}`), check(one.account.check)];
  }
}

function toLane(login, name = login) {
  return button(bdi(name), () => showLane(login), { class: "link" });
}

function toBatches(account) {
  return button(bdi(account), () => filterBatches({ account }), { class: "link" });
}

function detail(text) {
  return text ? [t("colon"), bdi(text)] : null;
}

function since(iso) {
  return [" ", el("span", { class: "soft" }, t("since_before"), moment(iso, { seconds: false }), t("since_after"))];
}

function check(told) {
  const names = [...told.unknown, ...told.missing];
  if (!names.length) return null;
  return [t("colon"), names.slice(0, 5).map((name, place) => [place > 0 && t("comma"), bdi(name, { class: "quoted" })])];
}

/* Say in words what holds something up: at `count` accounts, of which it is told of the latest. */
function because(cause, count) {
  switch (cause.code) {
    case "paused":
      return [t("cause.paused", word("pause", cause.paused.reason)), detail(cause.paused.detail)];
    case "waits":
      return t("cause.waits", word("wait", cause.reason || "other"), duration(cause.seconds));
    case "why":
      return english(cause.why);
    case "open":
    case "turn":
      return t(`cause.${cause.code}`, button(t("batch", cause.batch), () => showBatch(cause.batch), { class: "link" }), count);
    default:
      return t(`cause.${cause.code}`, duration(cause.seconds ?? 0));
  }
}
