/* The opt-outs that wait for an address of their customer. */

import { ask, path } from "./api.js";
import { confirm } from "./confirm.js";
import { bdi, button, el, lay, table } from "./dom.js";
import { desk, may } from "./desk.js";
import { ago, moment, number, t, word } from "./words.js";

const PAGE = 20;
const COUNTED_MAX = 500;

let afters = [];
let page = null;
let turn = () => {};

/** Load the page that is shown, and where it is not all, count them for the verdict, as far as one page of relay's goes. */
export async function load() {
  const asked = afters.length;
  const told = await ask(path(["unresolved"], { limit: PAGE, after: afters.at(-1) }));
  const all = asked || told.next !== null ? await ask(path(["unresolved"], { limit: COUNTED_MAX })) : told;
  desk.unresolved = { count: all.unresolved.length, more: all.next !== null };
  if (asked === afters.length) page = told;
}

/** Forget what was shown. */
export function clear() {
  afters = [];
  page = null;
  lay(document.getElementById("unresolved"));
}

/** `turned` loads and shows anew. */
export function prepare(turned) {
  turn = turned;
}

/** Show the page. */
export function show() {
  if (!page) return;
  lay(
    document.getElementById("unresolved"),
    table({
      caption: t("unresolved"),
      quiet: true,
      empty: t("no_unresolved"),
      rows: page.unresolved,
      key: (one) => `${one.account} ${one.source} ${one.webhook_id}`,
      columns: [
        { label: t("webhook_id"), head: true, cell: (one) => bdi(one.webhook_id, { class: "id" }) },
        { label: t("source"), cell: (one) => bdi(one.source) },
        { label: t("account"), cell: (one) => bdi(one.account) },
        { label: t("operation"), cell: (one) => word("operation", one.operation) },
        { label: t("received"), cell: (one) => [moment(one.received_at), " ", el("span", { class: "soft" }, ago(one.received_at))] },
        ...(may("operate") ? [{ label: t("act"), cell: (one) => button(t("dismiss.action"), () => dismiss(one), { "aria-label": t("dismiss_webhook", one.webhook_id) }) }] : []),
      ],
    }),
    (afters.length > 0 || page.next !== null) &&
      el(
        "p",
        { class: "buttons pages" },
        button(t("former"), () => go(() => afters.pop()), { disabled: !afters.length, key: "former" }),
        button(t("further"), () => go(() => afters.push(page.next)), { disabled: page.next === null, key: "further" }),
      ),
  );
}

function go(move) {
  move();
  turn();
}

function dismiss(one) {
  confirm({
    title: t("dismiss_unresolved.title"),
    about: `${one.source} / ${one.webhook_id}`,
    text: t("dismiss_unresolved.text"),
    action: t("dismiss.action"),
    danger: true,
    path: path(["webhooks", one.source, one.webhook_id, "dismiss"]),
    said: (told) => t("dismiss_unresolved.done", number(told.events)),
  });
}
