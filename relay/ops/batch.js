/* One batch, in a dialog of its own: its uploads, why it waits, its refused lines, and what can be pressed. */

import { ask, path } from "./api.js";
import { confirm } from "./confirm.js";
import { bdi, button, el, facts, lay, table } from "./dom.js";
import { may, spelled } from "./desk.js";
import { rejectionsTable } from "./rejections.js";
import { stateOf } from "./states.js";
import { clock, english, exactly, moment, number, size, t, word } from "./words.js";

const PAGE = 50;

/* The batch that is open: its number, what was told, its refused lines, whether their messages were asked for. */
let open = null;

/** Open a batch. */
export async function showBatch(id) {
  const dialog = document.getElementById("batch");
  const back = document.activeElement;
  open = { id, told: null, failed: "", rejections: null, next: 0, messages: false };
  dialog.onclose = () => {
    open = null;
    lay(dialog);
    if (!back?.isConnected) document.getElementById("batches-title").focus();
  };
  show();
  dialog.showModal();
  await load();
  show();
}

/** Close what is open, and forget it. */
export function clear() {
  document.getElementById("batch").close();
}

/** Load the open batch anew. Its refused lines are asked for again only when their number has changed. */
export async function load() {
  const mine = open;
  if (!mine) return;
  try {
    const told = await ask(path(["batches", String(mine.id)]));
    const same = mine.told?.rejected === told.rejected && mine.told?.dismissed_at === told.dismissed_at;
    mine.told = told;
    mine.failed = "";
    if (told.rejected && !(same && mine.rejections)) await loadRejections(mine, { anew: true });
  } catch (error) {
    mine.failed = spelled(error);
  }
}

/* With messages it is a look at customers' data, which relay records: only when somebody asks for it. */
async function loadRejections(mine, { anew = false, messages = false } = {}) {
  const after = anew ? 0 : mine.next;
  const found = await ask(path(["batches", String(mine.id), "rejections"], { limit: PAGE, after, messages }));
  mine.rejections = anew ? found.rejections : [...mine.rejections, ...found.rejections];
  mine.next = found.next;
  mine.messages = messages;
}

async function more(options) {
  const mine = open;
  try {
    await loadRejections(mine, options);
    mine.failed = "";
  } catch (error) {
    mine.failed = spelled(error);
  }
  show();
}

/** Look at the batch anew after something was done to it. */
export async function reload() {
  if (!open) return;
  open.rejections = null;
  await load();
  show();
}

/** Show the open batch. */
export function show() {
  if (!open) return;
  const { id, told, failed } = open;
  lay(
    document.getElementById("batch"),
    el(
      "header",
      {},
      el("h2", { id: "batch-title", tabindex: "-1", autofocus: true }, t("batch", id)),
      told && stateOf(told),
      button(t("close"), () => document.getElementById("batch").close(), { class: "close" }),
    ),
    el("p", { role: "alert", class: "bad" }, failed),
    told ? about(told) : !failed && el("p", { class: "empty" }, t("loading")),
    told && operate(told),
    told && uploads(told),
    told?.rejected > 0 && rejections(told),
  );
}

function about(batch) {
  const reported = batch.reported_success !== null && t("reported_counts", number(batch.reported_success), number(batch.reported_failure ?? 0));
  return [
    batch.why && el("p", { class: "why" }, el("strong", {}, t("why_waits")), t("colon"), english(batch.why)),
    facts([
      [t("account"), bdi(batch.account)],
      [t("login"), bdi(batch.login)],
      [t("operation"), word("operation", batch.operation)],
      [t("reason"), batch.reason && bdi(batch.reason)],
      [t("rows"), t("rows_and_size", number(batch.rows), size(batch.bytes))],
      [t("rejected"), batch.rejected > 0 && number(batch.rejected)],
      [t("reported"), reported],
      [t("attempts"), batch.attempts > 0 && number(batch.attempts)],
      [t("oldest_received"), moment(batch.oldest_received_at)],
      [t("created"), moment(batch.created_at)],
      [t("ended"), moment(batch.ended_at)],
      [t("was_retried"), moment(batch.retried_at)],
      [t("was_dismissed"), moment(batch.dismissed_at)],
      [t("columns"), batch.header.map((name, place) => [place > 0 && t("comma"), bdi(name)])],
    ]),
  ];
}

/* What can be retried or dismissed: all of a batch that was given up or never confirmed, else its refused lines. */
function isDead(batch) {
  const whole = ["failed", "unconfirmed"].includes(batch.state) && !batch.retried_at && !batch.dismissed_at;
  return whole || (open.rejections ?? []).some((line) => !line.retried_at && !line.dismissed_at);
}

function operate(batch) {
  if (!isDead(batch)) return null;
  if (!may("operate")) return el("p", { class: "soft" }, t("needs_operate"));
  const press = (act, more = {}) =>
    confirm({
      title: t(`${act}.title`),
      about: `${t("batch", batch.id)} · ${batch.account}`,
      text: t(`${act}.text`),
      action: t(`${act}.action`),
      path: path(["batches", String(batch.id), act]),
      said: (told) => t(`${act}.done`, number(told.events), batch.id),
      ...more,
    });
  return el(
    "p",
    { class: "buttons" },
    button(t("retry.action"), () => press("retry"), { key: "retry" }),
    button(t("dismiss.action"), () => press("dismiss", { danger: true }), { key: "dismiss" }),
  );
}

function uploads(batch) {
  return el(
    "section",
    { "aria-labelledby": "uploads-title" },
    el("h3", { id: "uploads-title" }, t("uploads")),
    table({
      caption: t("uploads_caption", batch.id),
      quiet: true,
      empty: t("no_uploads"),
      rows: batch.uploads,
      key: (upload) => upload.number,
      columns: [
        { label: t("upload_number"), head: true, cell: (upload) => number(upload.number) },
        { label: t("started"), cell: (upload) => moment(upload.started_at) },
        { label: t("took"), number: true, cell: (upload) => took(upload) },
        { label: t("outcome"), cell: (upload) => (upload.outcome === null ? t("under_way") : word("outcome", upload.outcome)) },
        { label: t("http_status"), number: true, cell: (upload) => upload.http_status ?? t("none") },
        { label: t("bytes_sent"), number: true, cell: (upload) => size(upload.bytes_sent) },
        { label: t("reason"), wide: true, cell: (upload) => [bdi(upload.reason), upload.reply_excerpt && el("code", { class: "excerpt", dir: "auto" }, upload.reply_excerpt)] },
      ],
    }),
  );
}

function took(upload) {
  if (!upload.ended_at) return t("none");
  const seconds = (Date.parse(upload.ended_at) - Date.parse(upload.started_at)) / 1000;
  return el("span", { title: clock(new Date(upload.ended_at)) }, exactly(seconds));
}

function rejections(batch) {
  const { rejections: lines, next, messages } = open;
  const anybody = lines?.length > 0;
  return el(
    "section",
    { "aria-labelledby": "rejections-title" },
    el("h3", { id: "rejections-title" }, t("rejections")),
    anybody && !messages && el("p", { class: "buttons" },
      may("pii")
        ? [button(t("show_messages"), () => more({ anew: true, messages: true }), { key: "messages" }), el("span", { class: "soft" }, t("look_is_recorded"))]
        : el("span", { class: "soft" }, t("needs_pii_messages")),
    ),
    anybody && messages && el("p", { class: "buttons" }, button(t("hide_messages"), () => more({ anew: true }), { key: "messages" })),
    lines && rejectionsTable(batch, lines, messages),
    next > 0 && el("p", { class: "buttons" }, button(t("more_lines"), () => more({ messages }), { key: "more" })),
  );
}
