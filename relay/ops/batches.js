/* The batches, newest first, a page at a time. */

import { ask, path } from "./api.js";
import { bdi, button, el, lay, table } from "./dom.js";
import { desk } from "./desk.js";
import { showBatch } from "./batch.js";
import { stateOf } from "./states.js";
import { ago, moment, number, t, word } from "./words.js";

const PAGE = 20;
const STATES = ["ready", "uploading", "waiting", "delivered", "accepted", "unconfirmed", "failed", "replaced"];
const OPERATIONS = ["upsert", "delete", "stop", "ban", "allow"];
const NARROW = "(max-width: 44rem)"; // as in page.css

/* `afters` leads back: the pages that were turned, the first page's undefined left out. */
const at = { account: "", state: "", operation: "", afters: [] };
let page = null;

/** Load the page that is shown. */
export async function load() {
  const { account, state, operation, afters } = at;
  const asked = JSON.stringify(at);
  const told = await ask(path(["batches"], { account, state, operation, limit: PAGE, after: afters.at(-1) }));
  if (asked === JSON.stringify(at)) page = told; // else somebody has turned the page meanwhile
}

/** Forget what was shown. */
export function clear() {
  Object.assign(at, { account: "", state: "", operation: "", afters: [] });
  page = null;
  lay(document.getElementById("batches"));
  lay(document.getElementById("batches-account"));
}

let turn = () => {};

/** Listen to the filters; `turned` loads and shows anew. */
export function prepare(turned) {
  turn = turned;
  const narrow = matchMedia(NARROW);
  const fold = () => {
    document.getElementById("batches-fold").open = !narrow.matches;
  };
  narrow.onchange = fold;
  fold();
  for (const name of ["account", "state", "operation"]) {
    const field = document.getElementById(`batches-${name}`);
    field.onchange = () => {
      at[name] = field.value;
      at.afters = [];
      turn();
    };
  }
}

/** Show the batches that fit, and go there. */
export function filterBatches(filter) {
  Object.assign(at, { account: "", state: "", operation: "", afters: [] }, filter);
  document.getElementById("batches-fold").open = true;
  showFilters();
  turn();
  const heading = document.getElementById("batches-title");
  heading.focus();
  heading.scrollIntoView({ block: "start" });
}

function showFilters() {
  const accounts = (desk.accounts ?? []).map((account) => account.name);
  if (at.account && !accounts.includes(at.account)) accounts.push(at.account);
  choose("account", accounts.map((name) => [name, name]));
  choose("state", STATES.map((name) => [name, word("state", name)]));
  choose("operation", OPERATIONS.map((name) => [name, word("operation", name)]));
}

function choose(name, choices) {
  const field = document.getElementById(`batches-${name}`);
  const option = ([value, label]) => el("option", { key: value || "any", value }, label);
  lay(field, [["", t("any")], ...choices].map(option));
  if (field.value !== at[name]) field.value = at[name];
}

/** Show the page. */
export function show() {
  showFilters();
  if (!page) return;
  lay(
    document.getElementById("batches"),
    table({
      caption: t("batches"),
      quiet: true,
      empty: t("no_batches"),
      rows: page.batches,
      key: (batch) => batch.id,
      columns: [
        {
          label: t("batch_number"),
          head: true,
          cell: (batch) => button(String(batch.id), () => showBatch(batch.id), { class: "link", "aria-label": t("open_batch", batch.id) }),
        },
        { label: t("account"), cell: (batch) => bdi(batch.account) },
        { label: t("operation"), cell: (batch) => word("operation", batch.operation) },
        { label: t("state"), cell: (batch) => stateOf(batch) },
        { label: t("rows"), number: true, cell: (batch) => number(batch.rows) },
        { label: t("rejected"), number: true, cell: (batch) => (batch.rejected ? number(batch.rejected) : t("none")) },
        { label: t("created"), cell: (batch) => [moment(batch.created_at), " ", el("span", { class: "soft" }, ago(batch.created_at))] },
      ],
    }),
    el(
      "p",
      { class: "buttons pages" },
      button(t("newer"), () => go(() => at.afters.pop()), { disabled: !at.afters.length, key: "newer" }),
      button(t("older"), () => go(() => at.afters.push(page.next)), { disabled: page.next === null, key: "older" }),
      at.afters.length > 0 && el("span", { class: "soft" }, t("page", number(at.afters.length + 1))),
    ),
  );
}

function go(move) {
  move();
  turn();
}
