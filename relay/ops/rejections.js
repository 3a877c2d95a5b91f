/* The lines that a vendor refused, as a table. */

import { bdi, el, table } from "./dom.js";
import { moment, number, t } from "./words.js";

/** Make the table; `messages`: with what the vendor said, which may hold a customer's data. */
export function rejectionsTable(batch, lines, messages) {
  return table({
    caption: t("rejections_caption", batch.id),
    quiet: true,
    empty: t("no_rejections"),
    rows: lines,
    key: (line) => `${line.line}.${line.event_id}`,
    columns: [
      { label: t("line"), head: true, cell: (line) => number(line.line) },
      { label: t("source"), cell: (line) => (line.source === null ? t("none") : bdi(line.source)) },
      { label: t("webhook_id"), cell: (line) => (line.webhook_id === null ? t("none") : bdi(line.webhook_id, { class: "id" })) },
      ...(messages ? [{ label: t("message"), wide: true, cell: (line) => bdi(line.message ?? t("none")) }] : []),
      { label: t("became"), cell: (line) => became(line) },
    ],
  });
}

function became(line) {
  if (line.retried_at) return [t("was_retried"), " ", moment(line.retried_at)];
  if (line.dismissed_at) return [t("was_dismissed"), " ", moment(line.dismissed_at)];
  return line.unconfirmed ? t("may_be_there") : el("strong", {}, t("is_dead"));
}
