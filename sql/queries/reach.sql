-- Find who has left some places ($1, $2) and where they are, and who has left those, from hop $3 up to hop $4.
-- Of a place, $5 are told, those that left it last. Each «limit» keeps a look-up from becoming a join over all customers.
with recursive reached(account, customer, hop) as (
    select n.account, n.customer, $3::integer from unnest($1::text[], $2::bytea[]) as n(account, customer)
    union
    select r.account, k.customer, r.hop + 1
    from reached r
    cross join lateral (
        select f.source, f.customer_id from former_address f
        where f.account = r.account and f.customer = r.customer and f.left_at > '-infinity' -- by its index
        order by f.left_at desc
        limit $5
    ) f
    cross join lateral (
        select k.customer from known_address k
        where k.account = r.account and k.source = f.source and k.customer_id = f.customer_id
        limit 1
    ) k
    where r.hop < $4 and k.customer is not null
)
select r.account, r.customer as left_customer, f.left_at, k.*
from (select distinct account, customer from reached) r
cross join lateral (
    select f.source as left_by, f.customer_id as left_id, f.left_at from former_address f
    where f.account = r.account and f.customer = r.customer and f.left_at > '-infinity' -- by its index
    order by f.left_at desc
    limit $5
) f
cross join lateral (
    select k.source, k.customer_id, k.address, k.customer, k.occurred_at, k.received_at, k.allowed_at, k.deleted_at
    from known_address k
    where k.account = r.account and k.source = f.left_by and k.customer_id = f.left_id
    limit 1
) k
