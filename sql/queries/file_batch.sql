-- File the manifest of a batch.
insert into batch (account, id, login, operation, layout, header, cut_from, cut_to, rows, bytes, oldest_received_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
