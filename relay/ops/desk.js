/* What the parts of the page share: whose token it is, what was last told of logins and accounts, and how to speak up. */

import { Refused } from "./api.js";
import { t } from "./words.js";

/** The token's name and scopes, and the last answers; null while nothing is known. */
export const desk = { token: null, logins: null, accounts: null, unresolved: null };

/** Whether the token has a scope. */
export function may(scope) {
  return Boolean(desk.token?.scopes.includes(scope));
}

/** Forget all that was told. */
export function forgetAll() {
  Object.assign(desk, { token: null, logins: null, accounts: null, unresolved: null });
}

/** Say in words why something failed: relay's own, and ours where relay could not be reached. */
export function spelled(error) {
  if (!(error instanceof Refused)) throw error; // a mistake of this page's
  if (error.status === 0) return error.message === "timeout" ? t("too_slow") : t("unreachable");
  const told = [error.message || t("refused", error.status), ...error.errors].join(" · ");
  return error.status === 403 ? t("lacks", told) : told;
}

const HEARD_MS = 6_000;
let answer = { text: "", until: 0 };

/** Say what was done or failed, where it is seen and read aloud. */
export function say(text, tone = "good") {
  answer = { text, until: performance.now() + HEARD_MS };
  put(text, tone);
}

/** Say what has changed by itself. It may follow from what somebody has just done, whose answer stays beside it. */
export function tell(text, tone) {
  put(performance.now() < answer.until ? `${answer.text} ${text}` : text, tone);
}

function put(text, tone) {
  const place = document.getElementById("said");
  place.className = tone;
  place.textContent = "";
  place.textContent = text;
}

const waiting = new Set();

/** Let somebody know when something was changed, so that it is looked at anew. */
export function onChange(listener) {
  waiting.add(listener);
}

/** Tell that something was changed. */
export function changed() {
  for (const listener of waiting) listener();
}
