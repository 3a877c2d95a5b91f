/* How states of batches and events are shown. */

import { el, mark } from "./dom.js";
import { t, word } from "./words.js";

const TONES = {
  delivered: "good",
  failed: "bad",
  rejected: "bad",
  unconfirmed: "warn",
  waiting: "warn",
  unresolved: "warn",
};

/** Show an event's state. */
export function eventState(state) {
  return mark(word("state", state), TONES[state] ?? "calm");
}

/** Show a batch's state, and what became of its dead letters. */
export function stateOf(batch) {
  const tone = batch.state === "delivered" && batch.rejected ? "warn" : (TONES[batch.state] ?? "calm");
  const done = batch.retried_at ? t("was_retried") : batch.dismissed_at ? t("was_dismissed") : null;
  return [mark(word("state", batch.state), tone), done && [" ", el("span", { class: "soft" }, done)]];
}
