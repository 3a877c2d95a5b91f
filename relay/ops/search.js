/* Looking for a webhook or a customer. What was found stays until it is cleared, and is never asked for again by itself:
   each look at a customer is recorded. */

import { ask, path } from "./api.js";
import { bdi, button, el, lay, mark, table } from "./dom.js";
import { may, spelled } from "./desk.js";
import { eventState } from "./states.js";
import { showBatch } from "./batch.js";
import { english, moment, number, t, word } from "./words.js";

const SHOWN_STEP = 50;

const found = { webhook: null, customer: null };
const asked = { webhook: 0, customer: 0 };

/** Listen to both forms. */
export function prepare() {
  const field = (id) => document.getElementById(id);
  listen("webhook", () => {
    const named = ["webhooks", field("webhook-source").value.trim(), field("webhook-id").value.trim()];
    return (messages) => ask(path(named, { messages }));
  });
  listen("customer", () => {
    const body = { email: field("customer-email").value.trim() };
    return () => ask(path(["customers", "search"]), { method: "POST", body });
  });
}

/* `prepared` reads the form and returns how to look, with the vendor's messages or without. */
function listen(what, prepared) {
  document.getElementById(`${what}-form`).onsubmit = (event) => {
    event.preventDefault();
    return find(what, prepared(), false);
  };
}

async function find(what, look, messages) {
  const mine = ++asked[what];
  found[what] = { busy: true };
  show();
  let result;
  try {
    result = { told: await look(messages), look, shownMax: SHOWN_STEP, messages };
  } catch (error) {
    result = { failed: spelled(error) };
  }
  if (mine !== asked[what]) return; // it was cleared, or something else is looked for by now
  found[what] = result;
  show();
}

/** Forget what was looked for and found. */
export function clear() {
  for (const what of ["webhook", "customer"]) forget(what);
}

function forget(what) {
  asked[what] += 1;
  found[what] = null;
  document.getElementById(`${what}-form`).reset();
  lay(document.getElementById(`${what}-found`));
}

/** Show what was found, and the form that the token is good for. */
export function show() {
  document.getElementById("webhook-form").hidden = !may("read");
  document.getElementById("customer-form").hidden = !may("pii");
  document.getElementById("customer-lacking").hidden = may("pii");
  lay(document.getElementById("webhook-found"), result("webhook", (told) => [events(told.events, "webhook"), waiting(told.unresolved)]));
  lay(document.getElementById("customer-found"), result("customer", (told) => [standings(told.standings), events(told.events, "customer"), told.truncated && el("p", { class: "soft" }, t("truncated"))]));
}

function result(what, shown) {
  const one = found[what];
  if (!one) return null;
  if (one.busy) return el("p", { class: "empty", role: "status" }, t("loading"));
  const clearing = () => {
    forget(what);
    document.getElementById(what === "webhook" ? "webhook-source" : "customer-email").focus();
  };
  return [
    el("p", { role: "status" }, one.failed ? el("span", { class: "bad" }, one.failed) : t("found_events", number(one.told.events.length), one.told.events.length)),
    one.told && shown(one.told),
    el("p", { class: "buttons" }, button(t("clear"), clearing, { key: "clear" })),
  ];
}

function standings(rows) {
  return table({
    caption: t("standings"),
    empty: t("no_standings"),
    rows,
    key: (row) => row.account,
    columns: [
      { label: t("account"), head: true, cell: (row) => bdi(row.account) },
      { label: t("standing"), cell: (row) => mark(word("standing", row.standing), ["subscribed", "allowed"].includes(row.standing) ? "good" : "warn") },
      { label: t("occurred"), cell: (row) => moment(row.occurred_at) },
      { label: t("confirmed"), cell: (row) => (row.confirmed_at ? moment(row.confirmed_at) : t("not_confirmed")) },
      { label: t("why"), wide: true, cell: (row) => english(row.why) },
    ],
  });
}

function events(rows, what) {
  const one = found[what];
  if (!rows.length) return null;
  const hidden = !one.messages && may("pii") && rows.some((row) => row.line !== null);
  const again = (change) => () => {
    Object.assign(one, change);
    show();
  };
  return [
    table({
      caption: t("events"),
      quiet: true,
      rows: rows.slice(0, one.shownMax),
      key: (row) => `${row.account}.${row.event_id}`,
      columns: [
        { label: t("event"), head: true, cell: (row) => [String(row.event_id), row.again_of && el("span", { class: "soft" }, " ", t("again_of", row.again_of))] },
        { label: t("account"), cell: (row) => bdi(row.account) },
        { label: t("operation"), cell: (row) => word("operation", row.operation) },
        ...(what === "customer" ? [{ label: t("webhook_id"), cell: (row) => bdi(`${row.source} / ${row.webhook_id}`, { class: "id" }) }] : []),
        { label: t("state"), cell: (row) => eventState(row.state) },
        { label: t("why"), wide: true, cell: (row) => [english(row.why), one.messages && row.message && el("p", {}, bdi(row.message)), proof(row.proof)] },
        { label: t("batch_number"), cell: (row) => (row.batch_id === null ? t("none") : button(String(row.batch_id), () => showBatch(row.batch_id), { class: "link", "aria-label": t("open_batch", row.batch_id) })) },
        { label: t("received"), cell: (row) => moment(row.received_at) },
        { label: t("settled"), cell: (row) => moment(row.settled_at) ?? t("none") },
      ],
    }),
    el(
      "p",
      { class: "buttons" },
      rows.length > one.shownMax && button(t("more_events", number(rows.length - one.shownMax)), again({ shownMax: one.shownMax + SHOWN_STEP }), { key: "more" }),
      hidden && button(t("show_messages"), what === "customer" ? again({ messages: true }) : () => find(what, one.look, true), { key: "messages" }),
      hidden && what === "webhook" && el("span", { class: "soft" }, t("look_is_recorded")),
    ),
  ];
}

/* Of an opt-out: how far it is proven that the vendor knows of it. */
function proof(told) {
  if (!told) return null;
  const at = told.confirmed_at ?? told.accepted_at;
  return el(
    "p",
    { class: "soft" },
    t("proof", word("proof", told.result)),
    at && [" ", moment(at)],
    told.uploads.length > 0 && [" ", t("proof_uploads", number(told.uploads.length), told.uploads.length)],
    told.lifted_by && [" ", t("proof_lifted", word("operation", told.lifted_by.operation)), " ", moment(told.lifted_by.occurred_at)],
  );
}

function waiting(rows) {
  if (!rows.length) return null;
  return table({
    caption: t("waiting_for_address"),
    rows,
    key: (row) => row.account,
    columns: [
      { label: t("account"), head: true, cell: (row) => bdi(row.account) },
      { label: t("operation"), cell: (row) => word("operation", row.operation) },
      { label: t("state"), cell: (row) => eventState(row.state) },
      { label: t("received"), cell: (row) => moment(row.received_at) },
      { label: t("why"), wide: true, cell: (row) => english(row.why) },
    ],
  });
}
