-- Keep who has left a place, and when.
insert into former_address (account, customer, source, customer_id, left_at)
select * from unnest($1::text[], $2::bytea[], $3::text[], $4::bytea[], $5::timestamptz[])
on conflict (account, customer, source, customer_id) do update set left_at = greatest(former_address.left_at, excluded.left_at)
