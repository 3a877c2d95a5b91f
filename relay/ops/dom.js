/* Making the page: elements are made anew from what is known, and laid over those that are there.

   Whoever shows something describes the whole of it each time, with `el`. `lay` then changes only what differs, so that
   the focus, the scroll and what is folded open stay where they are while the page refreshes itself. All text goes
   through text nodes: markup in it is text, whoever wrote it. */

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "path", "line", "rect", "text", "title"]);

/** Make an element. `attributes`: `on…` are listeners, `key` tells siblings apart; false, null and undefined leave out. */
export function el(tag, attributes = {}, ...children) {
  const made = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    if (name === "key") made.relayKey = String(value);
    else if (name.startsWith("on")) made[name] = value;
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...flat(children));
  return made;
}

function flat(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false && child !== "");
}

/** Show a text that relay did not write itself: its direction stays its own. */
export function bdi(text, attributes = {}) {
  return el("bdi", attributes, String(text ?? ""));
}

/** Lay children over those that a place has. */
export function lay(place, ...children) {
  const wanted = flat(children).map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
  const keyed = new Map();
  for (const old of place.childNodes) if (old.relayKey) keyed.set(old.relayKey, old);
  let old = place.firstChild;
  for (const child of wanted) {
    const same = child.relayKey ? keyed.get(child.relayKey) : !old?.relayKey && fits(old, child) ? old : null;
    if (same && fits(same, child)) {
      if (same === old) old = old.nextSibling;
      else place.insertBefore(same, old);
      layOne(same, child);
    } else {
      place.insertBefore(child, old);
    }
  }
  while (old) {
    const next = old.nextSibling;
    old.remove();
    old = next;
  }
}

function fits(old, child) {
  return Boolean(old) && old.nodeName === child.nodeName && (old.relayKey ?? "") === (child.relayKey ?? "");
}

function layOne(old, child) {
  if (child.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== child.data) old.data = child.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    // Whether something is folded open is the reader's to say.
    if (!child.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  for (const { name, value } of child.attributes) {
    const readers = name === "open" && old.nodeName === "DETAILS";
    if (!readers && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const name of ["onclick", "ontoggle", "oninput", "onsubmit", "onchange"]) old[name] = child[name] ?? null;
  lay(old, ...child.childNodes);
}

/** Make a table. `columns`: `{ label, cell(row), number?, head? }`; the one with `head` names its row.

    On narrow screens the style shows each row as a block with its labels; the roles keep it a table for screen readers
    even so. */
export function table({ caption, columns, rows, key, empty, quiet = false }) {
  if (!rows.length) return el("p", { class: "empty" }, empty);
  const cell = (column, row) =>
    el(
      column.head ? "th" : "td",
      {
        role: column.head ? "rowheader" : "cell",
        scope: column.head && "row",
        class: column.number ? "number" : column.wide && "wide",
        "data-label": column.label,
      },
      el("div", {}, column.cell(row)),
    );
  return el(
    "table",
    { role: "table", class: "data" },
    el("caption", { class: quiet ? "unseen" : null }, caption),
    el(
      "thead",
      { role: "rowgroup" },
      el(
        "tr",
        { role: "row" },
        columns.map((column) =>
          el("th", { role: "columnheader", scope: "col", class: column.number && "number" }, column.label),
        ),
      ),
    ),
    el(
      "tbody",
      { role: "rowgroup" },
      rows.map((row) => el("tr", { role: "row", key: key(row) }, columns.map((column) => cell(column, row)))),
    ),
  );
}

/** Make a button. */
export function button(label, onclick, attributes = {}) {
  return el("button", { type: "button", onclick, ...attributes }, label);
}

/** Make a list of facts; a fact without a value is left out. */
export function facts(entries) {
  const known = entries.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false);
  return known.length
    ? el("dl", { class: "facts" }, known.map(([name, value]) => el("div", { key: name }, el("dt", {}, name), el("dd", {}, value))))
    : null;
}

/** Make a mark: a word in a frame whose colour says the same as the word. `tone`: good, calm, warn or bad. */
export function mark(word, tone) {
  return el("span", { class: `mark ${tone}` }, word);
}
