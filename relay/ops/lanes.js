/* Each login with its lane and its accounts, and what can be pressed there. */

import { path } from "./api.js";
import { confirm } from "./confirm.js";
import { bdi, button, el, facts, lay, mark, table } from "./dom.js";
import { desk, may } from "./desk.js";
import { filterBatches } from "./batches.js";
import { grouped, isAway } from "./findings.js";
import { showBatch } from "./batch.js";
import { duration, english, moment, number, t, word } from "./words.js";

const SHOWN_STEP = 25;
const FOLDED_FROM_ACCOUNTS = 20;
const DATA_PAUSES = ["columns", "data"];

let shownMax = SHOWN_STEP;
let wanted = "";
const unfolded = new Map();

/** Forget what was shown. */
export function clear() {
  shownMax = SHOWN_STEP;
  wanted = "";
  unfolded.clear();
  document.getElementById("lanes-filter").value = "";
  lay(document.getElementById("lanes"));
}

/** Listen to the filter. */
export function prepare() {
  const filter = document.getElementById("lanes-filter");
  filter.oninput = () => {
    wanted = filter.value.trim().toLowerCase();
    shownMax = SHOWN_STEP;
    show();
  };
}

/** Show the lanes, in the order of the settings, so that nothing moves away under somebody's finger. */
export function show() {
  if (!desk.logins || !desk.accounts) return;
  const byLogin = new Map(grouped(desk.accounts, (account) => account.login));
  const fitting = desk.logins.filter((login) => [login.name, ...login.accounts].some((name) => name.toLowerCase().includes(wanted)));
  const left = fitting.length - shownMax;
  lay(
    document.getElementById("lanes"),
    fitting.length === 0 && el("p", { class: "empty" }, t(desk.logins.length ? "no_lane_fits" : "no_lanes")),
    el(
      "ul",
      { class: "lanes" },
      fitting.slice(0, shownMax).map((login) => el("li", { key: login.name }, lane(login, byLogin.get(login.name) ?? []))),
    ),
    left > 0 && el("p", {}, button(t("more_lanes", number(Math.min(left, SHOWN_STEP)), number(left)), more)),
  );
}

function more() {
  shownMax += SHOWN_STEP;
  show();
}

/** Bring a lane into view with its accounts, and give it the focus. */
export function showLane(name) {
  unfolded.set(name, true);
  const filter = document.getElementById("lanes-filter");
  const place = desk.logins.findIndex((login) => login.name === name);
  if (place >= shownMax || !name.toLowerCase().includes(wanted)) {
    wanted = filter.value = name;
  }
  show();
  const heading = document.getElementById(`lane-${name}`);
  const accounts = heading?.closest("article").querySelector("details");
  if (accounts) accounts.open = true;
  heading?.focus();
  heading?.scrollIntoView({ block: "start" });
}

function lane(login, accounts) {
  const [words, tone] = state(login);
  return el(
    "article",
    { "aria-labelledby": `lane-${login.name}` },
    el(
      "header",
      {},
      el("h3", { id: `lane-${login.name}`, tabindex: "-1" }, bdi(login.name), " ", el("small", {}, word("vendor", login.vendor))),
      mark(words, tone),
      may("operate") && el("p", { class: "buttons" }, buttons(login)),
    ),
    about(login),
    accountsOf(login, accounts),
  );
}

function state(login) {
  if (login.paused?.holds) {
    const word = DATA_PAUSES.includes(login.paused.reason) ? "lane.data_paused" : "lane.paused";
    return [t(word), "bad"];
  }
  if (login.waits?.reason === "logins_refused") return [t("lane.locked"), "bad"];
  if (isAway(login)) return [t("lane.away"), "warn"];
  if (login.refused_settings) return [t("lane.left"), "warn"];
  if (login.uploading_batch !== null) return [t("lane.uploading"), "good"];
  if (login.waits) return [t("lane.waiting"), "calm"];
  return [t(login.leased ? "lane.working" : "lane.idle"), "calm"];
}

function about(login) {
  const { paused, waits, quota, breaker, refused_settings: settings, refused_logins: refused } = login;
  return facts([
    [t("fact.paused"), paused && [word("pause", paused.reason), paused.detail && [t("colon"), bdi(paused.detail)], t("comma"), t("since_before"), moment(paused.since), t("since_after"), !paused.holds && [" ", t("fact.not_held")]]],
    [t("fact.waits"), waits && t("fact.waits_for", word("wait", waits.reason || "other"), duration(waits.seconds))],
    [t("fact.uploading"), login.uploading_batch !== null && button(t("batch", login.uploading_batch), () => showBatch(login.uploading_batch), { class: "link" })],
    [t("fact.quota"), quota.per_day !== null && [t("fact.quota_left", number(quota.left), number(quota.per_day), number(quota.kept_for_opt_outs ?? 0)), quota.why && [el("br"), english(quota.why)]]],
    [t("fact.breaker"), breaker && breaker.state !== "closed" && [bdi(breaker.host), t("colon"), t(`breaker.${breaker.state}`, duration(breaker.next_try_s))]],
    [t("fact.refused_settings"), settings && t(settings.data_only ? "fact.refused_data_for" : "fact.refused_settings_for", duration(settings.seconds))],
    [t("fact.refused_logins"), refused.last_hour > 0 && t("fact.refused_logins_of", number(refused.last_hour), number(refused.per_hour_max))],
  ]);
}

function accountsOf(login, accounts) {
  if (!accounts.length) return el("p", { class: "empty" }, t("no_accounts"));
  const folded = desk.accounts.length >= FOLDED_FROM_ACCOUNTS;
  const open = unfolded.get(login.name) ?? !folded;
  const ontoggle = (event) => {
    if (unfolded.get(login.name) === event.target.open) return;
    unfolded.set(login.name, event.target.open);
    show();
  };
  return el(
    "details",
    { key: "accounts", open, ontoggle },
    el("summary", {}, t("accounts_of", number(accounts.length), accounts.length), el("span", { class: "soft" }, sums(accounts))),
    open && accountsTable(login, accounts),
  );
}

function sums(accounts) {
  const of = (name) => accounts.reduce((sum, account) => sum + account[name], 0);
  const told = [t("pending_of", number(of("pending")))];
  if (of("dead_letters")) told.push(t("dead_letters_of", number(of("dead_letters")), of("dead_letters")));
  return ` · ${told.join(" · ")}`;
}

function accountsTable(login, accounts) {
  const age = (seconds) => (seconds === null ? t("none") : duration(seconds));
  return table({
    caption: t("accounts_caption", login.name),
    quiet: true,
    rows: accounts,
    key: (account) => account.name,
    columns: [
      { label: t("account"), head: true, cell: (account) => bdi(account.name) },
      { label: t("pending"), number: true, cell: (account) => number(account.pending) },
      { label: t("oldest_opt_out"), number: true, cell: (account) => age(account.oldest_unsettled.opt_out_s) },
      { label: t("oldest_data"), number: true, cell: (account) => age(account.oldest_unsettled.data_s) },
      {
        label: t("dead_letters"),
        number: true,
        cell: (account) =>
          account.dead_letters
            ? button(number(account.dead_letters), () => filterBatches({ account: account.name }), {
                class: "link",
                "aria-label": t("show_dead_letters", number(account.dead_letters), account.name),
              })
            : t("none"),
      },
      { label: t("columns_check"), cell: (account) => checked(account.check) },
    ],
  });
}

function checked(check) {
  if (!check) return t("none");
  return check.fingerprint_current ? word("check", check.result) : t("check_old");
}

function buttons(login) {
  const name = login.name;
  const press = (act, more = {}) =>
    confirm({
      title: t(`${act}.title`),
      about: name,
      text: t(`${act}.text`),
      action: t(`${act}.action`),
      path: path(["logins", name, act]),
      said: () => t(`${act}.done`, name),
      ...more,
    });
  const held = login.paused || login.waits || login.refused_settings;
  return [
    button(t("flush.action"), () => press("flush"), { key: "flush", "aria-label": t("of_login", t("flush.action"), name) }),
    held && button(t("resume.action"), () => press("resume"), { key: "resume", "aria-label": t("of_login", t("resume.action"), name) }),
    login.paused?.reason !== "operator" &&
      button(t("pause.action"), () => press("pause", { reason: true, danger: true }), { key: "pause", "aria-label": t("of_login", t("pause.action"), name) }),
  ];
}
