-- Read the opt-outs that wait for an address of some customers, as they occurred.
select u.account, u.source, u.message_id, u.customer_source, u.customer_id, u.digest, u.operation, u.occurred_at, u.received_at
from unnest($1::text[], $2::text[], $3::bytea[]) as n(account, customer_source, customer_id)
join unresolved u on u.account = n.account and u.customer_source = n.customer_source and u.customer_id = n.customer_id
order by u.occurred_at, u.received_at, u.id
