-- Keep where some customers are.
insert into known_address (account, source, customer_id, address, customer, occurred_at, received_at, allowed_at, deleted_at)
select * from unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::bytea[], $6::timestamptz[], $7::timestamptz[],
                     $8::timestamptz[], $9::timestamptz[])
on conflict (account, source, customer_id) do update
set address = excluded.address, customer = excluded.customer, occurred_at = excluded.occurred_at,
    received_at = excluded.received_at, allowed_at = excluded.allowed_at, deleted_at = excluded.deleted_at
