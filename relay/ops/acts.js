/* The audit record: who did what, and when. */

import { ask, path } from "./api.js";
import { bdi, button, el, lay, table } from "./dom.js";
import { showBatch } from "./batch.js";
import { moment, number, t, word } from "./words.js";

const PAGE = 20;

let afters = [];
let page = null;
let turn = () => {};

/** Load the page that is shown. */
export async function load() {
  const asked = afters.length;
  const told = await ask(path(["acts"], { limit: PAGE, after: afters.at(-1) }));
  if (asked === afters.length) page = told;
}

/** Forget what was shown. */
export function clear() {
  afters = [];
  page = null;
  lay(document.getElementById("acts"));
}

/** `turned` loads and shows anew. */
export function prepare(turned) {
  turn = turned;
}

/** Show the page. */
export function show() {
  if (!page) return;
  lay(
    document.getElementById("acts"),
    table({
      caption: t("acts"),
      quiet: true,
      empty: t("no_acts"),
      rows: page.acts,
      key: (act) => act.id,
      columns: [
        { label: t("when"), head: true, cell: (act) => moment(act.at) },
        { label: t("who"), cell: (act) => [bdi(act.who), " ", el("span", { class: "soft" }, word("through", act.through))] },
        { label: t("what"), cell: (act) => word("act", act.act) },
        { label: t("on_what"), cell: (act) => object(act) },
        { label: t("how_many"), number: true, cell: (act) => (act.events === null ? t("none") : number(act.events)) },
        { label: t("detail"), wide: true, cell: (act) => bdi(act.detail) },
      ],
    }),
    (afters.length > 0 || page.next !== null) &&
      el(
        "p",
        { class: "buttons pages" },
        button(t("newer"), () => go(() => afters.pop()), { disabled: !afters.length, key: "newer" }),
        button(t("older"), () => go(() => afters.push(page.next)), { disabled: page.next === null, key: "older" }),
      ),
  );
}

function go(move) {
  move();
  turn();
}

function object(act) {
  const parts = [
    act.batch !== null && button(t("batch", act.batch), () => showBatch(act.batch), { class: "link" }),
    act.webhook_id !== null && bdi(`${act.source ?? ""} / ${act.webhook_id}`, { class: "id" }),
    act.account !== null && bdi(act.account),
    act.login !== null && act.login !== act.account && bdi(act.login),
  ].filter(Boolean);
  return parts.length ? parts.map((part, place) => [place > 0 && " · ", part]) : t("none");
}
