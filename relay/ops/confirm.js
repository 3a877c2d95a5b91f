/* Asking before something is done: what will happen, to what, and what it means for the data. */

import { ask } from "./api.js";
import { bdi, button, el, lay } from "./dom.js";
import { changed, say, spelled } from "./desk.js";
import { t } from "./words.js";

const REASON_CHARACTERS_MAX = 200; // relay takes no more

/** Ask in a dialog, then do it. `body(form)` makes what is sent; `said` is told when it is done; `undo` has a red button.

    The dialog stays open while relay works and when relay refuses, so that nobody has to guess what became of it. */
export function confirm({ title, about, text, action, path, said, reason = false, danger = false }) {
  const dialog = document.getElementById("confirm");
  const back = document.activeElement;
  let working = false;
  let failed = "";

  const show = () =>
    lay(
      dialog,
      el(
        "form",
        { method: "dialog", onsubmit: go, "aria-busy": working && "true" },
        el("h2", { id: "confirm-title" }, title),
        el("p", { class: "about" }, bdi(about)),
        text.map((line) => el("p", {}, line)),
        reason &&
          el(
            "p",
            { class: "field" },
            el("label", { for: "confirm-reason" }, t("pause_reason")),
            el("input", {
              id: "confirm-reason",
              type: "text",
              maxlength: REASON_CHARACTERS_MAX,
              autocomplete: "off",
              dir: "auto",
              "aria-describedby": "confirm-hint",
            }),
            el("small", { id: "confirm-hint" }, t("pause_reason_hint")),
          ),
        el("p", { role: "alert", class: "bad" }, failed),
        el(
          "p",
          { class: "buttons" },
          button(t("cancel"), () => dialog.close(), { autofocus: !reason, disabled: working }),
          el("button", { type: "submit", class: danger ? "danger" : "main", disabled: working }, working ? t("working") : action),
        ),
      ),
    );

  async function go(event) {
    event.preventDefault();
    if (working) return;
    working = true;
    failed = "";
    const body = reason ? { reason: document.getElementById("confirm-reason").value.trim() } : undefined;
    show();
    try {
      const told = await ask(path, { method: "POST", body });
      working = false;
      dialog.close();
      say(said(told));
      changed();
    } catch (error) {
      working = false;
      failed = spelled(error);
      if (dialog.open) show();
      else say(failed, "bad");
    }
  }

  dialog.onclose = () => {
    lay(dialog);
    // The browser gives the focus back by itself, unless what had it was replaced meanwhile.
    if (!back?.isConnected || back.disabled) document.getElementById("verdict-title").focus();
  };
  lay(dialog);
  show();
  dialog.showModal();
}
