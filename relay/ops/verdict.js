/* The first thing on the page: is anything late, lost or held up, and why. */

import { ask, path } from "./api.js";
import { bdi, button, el, lay } from "./dom.js";
import { desk, say } from "./desk.js";
import { findings } from "./findings.js";
import { showBatch } from "./batch.js";
import { filterBatches } from "./batches.js";
import { showLane } from "./lanes.js";
import { duration, english, moment, number, t, word } from "./words.js";

const SHOWN_MAX = 20;

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
      found.length > 0 &&
        el("ul", { class: "findings" }, found.slice(0, SHOWN_MAX).map((one) => el("li", { key: one.key, class: one.tone }, line(one)))),
      found.length > SHOWN_MAX && el("p", {}, t("more_findings", number(found.length - SHOWN_MAX))),
    ),
  );
  document.title = pressing.length ? `(${pressing.length}) relay` : "relay";
  const told = `${headline} ${found.map((one) => one.key).join()}`;
  if (before && told !== before) say(headline, tone);
  before = told;
}

/** Forget what was said last, so that a change of language is not told as news. */
export function unsay() {
  before = "";
}

function verdict(found, pressing) {
  const count = (kind) => found.filter((one) => one.kind === kind).length;
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

function waiting() {
  const pending = desk.accounts.reduce((sum, account) => sum + account.pending, 0);
  if (!pending) return t("nothing_waits");
  const ages = desk.accounts.flatMap((account) => [account.oldest_unsettled.opt_out_s ?? 0, account.oldest_unsettled.data_s ?? 0]);
  return t("so_many_wait", number(pending), duration(Math.max(...ages)), pending);
}

function line(one) {
  const lane = one.login && toLane(one.login.name);
  switch (one.kind) {
    case "opt_outs_late":
    case "data_late":
      return [
        t(`finding.${one.kind}`, duration(one.seconds)),
        " ",
        toLane(one.account.login, one.account.name),
        t("colon"),
        because(one.cause),
      ];
    case "paused":
      return [lane, " ", t("finding.paused", word("pause", one.login.paused.reason)), detail(one.login.paused.detail), since(one.login.paused.since)];
    case "logins_refused":
      return [lane, " ", t("finding.logins_refused", duration(one.login.waits.seconds))];
    case "breaker":
      return [lane, " ", t("finding.breaker", duration(one.login.breaker.next_try_s)), " ", bdi(one.login.breaker.host)];
    case "refused_settings":
      return [lane, " ", t("finding.refused_settings", duration(one.login.refused_settings.seconds))];
    case "quota":
      return [lane, " ", t("finding.quota"), t("colon"), english(one.login.quota.why)];
    case "unresolved":
      return el("a", { href: "#unresolved-title" }, t("finding.unresolved", number(one.count), one.more, one.count));
    case "dead_letters":
      return [
        button(bdi(one.account.name), () => filterBatches({ account: one.account.name }), { class: "link" }),
        " ",
        t("finding.dead_letters", number(one.account.dead_letters), one.account.dead_letters),
      ];
    default:
      return [toLane(one.account.login, one.account.name), " ", t(`finding.check_${one.account.check.result}`), check(one.account.check)];
  }
}

function toLane(login, name = login) {
  return button(bdi(name), () => showLane(login), { class: "link" });
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

/** Say in words what holds something up. */
export function because(cause) {
  switch (cause.code) {
    case "paused":
      return [t("cause.paused", word("pause", cause.paused.reason)), detail(cause.paused.detail)];
    case "waits":
      return t("cause.waits", word("wait", cause.reason || "other"), duration(cause.seconds));
    case "why":
      return english(cause.why);
    case "open":
    case "turn":
      return [t(`cause.${cause.code}`), " ", button(t("batch", cause.batch), () => showBatch(cause.batch), { class: "link" })];
    default:
      return t(`cause.${cause.code}`, duration(cause.seconds ?? 0));
  }
}
