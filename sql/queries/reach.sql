-- Find who has left some places ($1, $2) and where they are, and who has left those, from hop $3 up to hop $4.
-- Of a place, $5 are told, those that left it last.
with recursive reached(account, customer, hop) as (
    select n.account, n.customer, $3::integer from unnest($1::text[], $2::bytea[]) as n(account, customer)
    union
    select k.account, k.customer, r.hop + 1
    from reached r
    cross join lateral (
        select f.source, f.customer_id from former_address f
        where f.account = r.account and f.customer = r.customer
        order by f.left_at desc
        limit $5
    ) f
    join known_address k on k.account = r.account and k.source = f.source and k.customer_id = f.customer_id
    where r.hop < $4 and k.customer is not null
)
select r.account, r.customer as left_customer, f.left_at, k.source, k.customer_id, k.address, k.customer, k.occurred_at,
       k.received_at, k.allowed_at, k.deleted_at
from (select distinct account, customer from reached) r
cross join lateral (
    select f.source, f.customer_id, f.left_at from former_address f
    where f.account = r.account and f.customer = r.customer
    order by f.left_at desc
    limit $5
) f
join known_address k on k.account = r.account and k.source = f.source and k.customer_id = f.customer_id
