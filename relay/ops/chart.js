/* The last hours: what was received, delivered, accepted and rejected, drawn, told bin by bin, and as a table. */

import { ask, path } from "./api.js";
import { el, lay, table } from "./dom.js";
import { clock, moment, number, t } from "./words.js";

const WIDTH = 960;
const HEIGHT = 220;
const LEFT = 56;
const BELOW = 28;
const ABOVE = 10;
const LABELS_EVERY_MIN = { 1: 10, 6: 60, 24: 240, 48: 480 };
const EVERY_MS = 30_000;
const NAMES = ["received", "delivered", "accepted", "rejected"];

/* The bars stand on each other, from below, and differ in shape as well as in colour: what the vendor has not confirmed
   is hollow, what it refused is narrow. */
const BARS = [["delivered", 0.7], ["accepted", 0.6], ["rejected", 0.4]];

let hours = 6;
let told = null;
let at = null; // the bin that is looked at; null follows the newest
let open = false;
let loaded = -EVERY_MS;

/** Load the history, less often than the rest: its bins are minutes long. */
export async function load({ anew = false } = {}) {
  if (!anew && performance.now() - loaded < EVERY_MS) return;
  const asked = hours;
  const found = await ask(path(["history"], { hours }));
  if (asked !== hours) return;
  loaded = performance.now();
  told = found.bins;
}

/** Forget what was shown. */
export function clear() {
  told = at = null;
  open = false;
  loaded = -EVERY_MS;
  lay(document.getElementById("chart"));
}

/** Listen to the choice of hours; `turned` loads and shows anew. */
export function prepare(turned) {
  const field = document.getElementById("chart-hours");
  field.onchange = () => {
    hours = Number(field.value);
    at = null;
    loaded = -EVERY_MS;
    turned();
  };
}

/** Show the chart. */
export function show() {
  lay(
    document.getElementById("chart-hours"),
    [1, 6, 24, 48].map((some) => el("option", { key: some, value: some, selected: some === hours }, t("last_hours", number(some), some))),
  );
  if (!told?.length) return;
  const looked = Math.min(at ?? told.length - 1, told.length - 1);
  lay(
    document.getElementById("chart"),
    legend(),
    drawn(looked),
    el(
      "div",
      { class: "look" },
      el("label", { for: "chart-at" }, t("look_at")),
      el("input", {
        id: "chart-at", type: "range", min: 0, max: told.length - 1, step: 1, value: looked,
        "aria-valuetext": spelled(told[looked]),
        oninput: (event) => {
          at = Number(event.target.value);
          show();
        },
      }),
      el("output", { for: "chart-at", id: "chart-told" }, spelled(told[looked])),
    ),
    el(
      "details",
      { ontoggle: unfold },
      el("summary", {}, t("as_table")),
      open && asTable(),
    ),
  );
  const range = document.getElementById("chart-at");
  if (Number(range.value) !== looked) range.value = String(looked);
}

function unfold(event) {
  if (open === event.target.open) return;
  open = event.target.open;
  show();
}

function legend() {
  const total = (name) => number(told.reduce((sum, bin) => sum + bin[name], 0));
  return el(
    "ul",
    { class: "legend" },
    NAMES.map((name) => el("li", { class: name, key: name }, t(`chart.${name}`), " ", el("strong", {}, total(name)))),
  );
}

function spelled(bin) {
  const time = (iso) => clock(new Date(iso), { seconds: false });
  return t("chart.bin", time(bin.from), time(bin.to), ...NAMES.map((name) => number(bin[name])));
}

/* Round up to a number that divides well: 1, 2 or 5 times a power of ten. */
function above(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, value)));
  return power * [1, 2, 4, 5, 10].find((by) => by * power >= value);
}

function drawn(looked) {
  const top = Math.max(4, above(Math.max(...told.map((bin) => Math.max(bin.received, stacked(bin))))));
  const step = (WIDTH - LEFT) / told.length;
  const y = (value) => ABOVE + (HEIGHT - ABOVE - BELOW) * (1 - value / top);
  const x = (place) => LEFT + place * step;
  const bar = (bin, place) => ([name, width], level) => {
    const from = stacked(bin, level);
    const wide = step * width;
    return bin[name] > 0 && el("rect", { class: name, x: x(place) + (step - wide) / 2, width: wide, y: y(from + bin[name]), height: Math.max(1, y(from) - y(from + bin[name])) });
  };
  const shape = told.map((bin, place) => `${place ? "L" : "M"}${x(place)} ${y(bin.received)}H${x(place + 1)}`).join("");
  return el(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-labelledby": "chart-title", "aria-describedby": "chart-told", onclick: null },
    [0, 0.25, 0.5, 0.75, 1].map((part) => [
      el("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: y(top * part), y2: y(top * part) }),
      el("text", { class: "axis", x: LEFT - 8, y: y(top * part) + 4, "text-anchor": "end" }, number(top * part)),
    ]),
    times(x),
    el("rect", { class: "looked", x: x(looked), width: step, y: ABOVE, height: HEIGHT - ABOVE - BELOW }),
    told.map((bin, place) => BARS.map(bar(bin, place))),
    el("path", { class: "received", d: shape }),
    told.map((bin, place) => el("rect", { class: "touch", x: x(place), width: step, y: 0, height: HEIGHT - BELOW, onclick: () => look(place) }, el("title", {}, spelled(bin)))),
  );
}

/* How high the first bars of a bin stand, or all of them. */
function stacked(bin, level = BARS.length) {
  return BARS.slice(0, level).reduce((sum, [name]) => sum + bin[name], 0);
}

function look(place) {
  at = place;
  show();
}

/* Round times of the reader's zone stand below the bins that hold them. */
function times(x) {
  const every = LABELS_EVERY_MIN[hours];
  return told.map((bin, place) => {
    const at = new Date(bin.from);
    const past = (at.getHours() * 60 + at.getMinutes()) % every;
    if (past > 0 && every - past >= (Date.parse(bin.to) - at) / 60_000) return null;
    if (past > 0) at.setMinutes(at.getMinutes() + every - past);
    const text = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" }).format(at);
    return el("text", { class: "axis", x: x(place), y: HEIGHT - 8, "text-anchor": "middle" }, text);
  });
}

function asTable() {
  return table({
    caption: t("history"),
    quiet: true,
    rows: [...told].reverse(),
    key: (bin) => bin.from,
    columns: [
      { label: t("from"), head: true, cell: (bin) => moment(bin.from, { seconds: false }) },
      { label: t("until"), cell: (bin) => moment(bin.to, { seconds: false }) },
      ...NAMES.map((name) => ({ label: t(`chart.${name}`), number: true, cell: (bin) => number(bin[name]) })),
    ],
  });
}
