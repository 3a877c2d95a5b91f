-- File the manifest of a batch, and tell for how many seconds the oldest of its webhooks ($12) has waited.
insert into batch (account, id, login, operation, layout, header, cut_from, cut_to, rows, bytes, oldest_received_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
returning extract(epoch from now() - $12::timestamptz)::float8 as pending_s
