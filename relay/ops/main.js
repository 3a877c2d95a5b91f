/* The page: who looks at it, in which language, and when it asks again. */

import { ask, forget, keep, path, Refused } from "./api.js";
import { desk, forgetAll, may, onChange, say, spelled } from "./desk.js";
import { bdi, el, lay } from "./dom.js";
import { Refresh } from "./refresh.js";
import { change, clock, spoken, t } from "./words.js";
import * as acts from "./acts.js";
import * as batch from "./batch.js";
import * as batches from "./batches.js";
import * as chart from "./chart.js";
import * as lanes from "./lanes.js";
import * as search from "./search.js";
import * as unresolved from "./unresolved.js";
import * as verdict from "./verdict.js";

const at = (id) => document.getElementById(id);

/* In this order they are shown; those without `load` show what others have loaded. */
const PARTS = [verdict, lanes, batches, search, unresolved, chart, acts, batch];

let fresh = null; // when everything was last told
const refresh = new Refresh(loadAll, showState);

async function loadAll() {
  const results = await Promise.allSettled(PARTS.filter((part) => part.load).map((part) => part.load()));
  const errors = results.filter((result) => result.status === "rejected").map((result) => result.reason);
  if (!desk.token) return null; // somebody has left meanwhile
  const bug = errors.find((error) => !(error instanceof Refused));
  if (bug) console.error(bug);
  const unknown = errors.find((error) => error.status === 401);
  if (unknown) {
    leave(t("token_refused"));
    return null;
  }
  if (!errors.length) fresh = new Date();
  showAll();
  return bug ? new Refused(0, "") : (errors[0] ?? null);
}

function showAll() {
  for (const part of PARTS) part.show();
}

/* What was turned to is loaded at once, beside the rest. */
function turned(part) {
  return async () => {
    try {
      await part.load();
    } catch (error) {
      say(spelled(error), "bad");
    }
    part.show();
  };
}

// -- whether it is up to date ----------------------------------------------------------------------------------------

function showState({ paused, failed, next }) {
  const stale = at("stale");
  lay(at("fresh"), fresh ? [t("as_of"), " ", el("time", { datetime: fresh.toISOString(), title: fresh.toISOString() }, clock(fresh))] : t("loading"));
  lay(at("pause"), t(paused ? "go_on" : "hold"));
  stale.hidden = !failed;
  const told = failed ? t("stale", spelled(failed), fresh ? clock(fresh) : null) : "";
  if (at("stale-told").textContent !== told) at("stale-told").textContent = told;
  lay(at("stale-next"), next ? t("next_try", clock(next)) : "");
}

// -- who looks -------------------------------------------------------------------------------------------------------

async function enter(event) {
  event.preventDefault();
  const field = at("token");
  const given = field.value.trim();
  field.value = "";
  if (!/^[!-~]+$/.test(given)) return showRefused(t("token_refused"));
  keep(given);
  at("enter").disabled = true;
  try {
    desk.token = await ask(path(["token"]));
  } catch (error) {
    forget();
    return showRefused(error.status === 401 ? t("token_refused") : spelled(error));
  } finally {
    at("enter").disabled = false;
  }
  showRefused("");
  showDesk();
  at("verdict-title").focus();
  if (may("read")) refresh.now();
  else search.show();
}

function showRefused(text) {
  at("refused").textContent = text;
  at("token").setAttribute("aria-invalid", String(Boolean(text)));
  if (text) at("token").focus();
}

/* Forget the token and all that was shown for it. */
function leave(text = "") {
  forget();
  forgetAll();
  refresh.stop();
  fresh = null;
  at("confirm").close();
  for (const part of PARTS) part.clear();
  at("said").textContent = "";
  document.title = "relay";
  showDesk();
  showRefused(text);
  if (!text) at("token").focus();
}

function showDesk() {
  const inside = Boolean(desk.token);
  for (const place of document.querySelectorAll("[data-inside]")) place.hidden = !inside;
  for (const place of document.querySelectorAll("[data-needs]")) place.hidden = !inside || !may(place.dataset.needs);
  at("door").hidden = inside;
  at("stale").hidden = true;
  lay(at("who"), inside && [t("signed_in"), " ", bdi(desk.token.name)]);
  const lacking = inside ? ["read", "operate", "pii"].filter((scope) => !may(scope)) : [];
  lay(at("lacking"), lacking.map((scope) => el("li", { key: scope }, t(`lacks_${scope}`))));
  at("lacking").hidden = !lacking.length;
}

// -- in which language -----------------------------------------------------------------------------------------------

function speak() {
  document.documentElement.lang = spoken();
  for (const place of document.querySelectorAll("[data-t]")) place.textContent = t(place.dataset.t);
  for (const place of document.querySelectorAll("[data-label-t]")) place.setAttribute("aria-label", t(place.dataset.labelT));
  const other = at("language");
  other.lang = spoken() === "en" ? "ja" : "en";
  other.textContent = spoken() === "en" ? "日本語" : "English";
  verdict.unsay();
  showDesk();
  if (desk.token) {
    showAll();
    showState({ paused: refresh.paused, failed: refresh.failed, next: null });
  }
}

// -- the beginning ---------------------------------------------------------------------------------------------------

at("door-form").onsubmit = enter;
at("leave").onclick = () => leave();
at("pause").onclick = () => refresh.pause(!refresh.paused);
at("now").onclick = () => refresh.now();
at("language").onclick = () => {
  change();
  speak();
};
// Who comes back to a page that the browser has kept finds nobody signed in.
window.addEventListener("pagehide", () => desk.token && leave());
onChange(async () => {
  await batch.reload();
  refresh.now();
});
lanes.prepare();
search.prepare();
for (const part of [batches, unresolved, chart, acts]) part.prepare(turned(part));
speak();
at("starting").remove();
for (const place of document.querySelectorAll("[data-started]")) place.hidden = false;
at("token").focus();
