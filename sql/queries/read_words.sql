-- Read the last word of each kind about some places; those by which relay took leave of a place ($3) are a kind of their own.
select n.account, n.customer, w.operation, w.message_id, w.occurred_at, w.received_at
from unnest($1::text[], $2::bytea[]) as n(account, customer)
cross join lateral (
    (
        select e.operation, e.message_id, e.occurred_at, e.received_at from event e
        where e.account = n.account and e.customer = n.customer and e.operation = 'upsert' and e.again_of is null
        order by e.occurred_at desc, e.received_at desc, e.id desc
        limit 1
    )
    union all
    (
        select e.operation, e.message_id, e.occurred_at, e.received_at from event e
        where e.account = n.account and e.customer = n.customer and e.operation <> 'upsert' and e.operation = 'delete' and not e.message_id like any ($3::text[]) and e.again_of is null
        order by e.occurred_at desc, e.received_at desc, e.id desc
        limit 1
    )
    union all
    (
        select e.operation, e.message_id, e.occurred_at, e.received_at from event e
        where e.account = n.account and e.customer = n.customer and e.operation <> 'upsert' and e.operation in ('stop', 'ban') and not e.message_id like any ($3::text[]) and e.again_of is null
        order by e.occurred_at desc, e.received_at desc, e.id desc
        limit 1
    )
    union all
    (
        select e.operation, e.message_id, e.occurred_at, e.received_at from event e
        where e.account = n.account and e.customer = n.customer and e.operation <> 'upsert' and e.operation = 'allow' and e.again_of is null
        order by e.occurred_at desc, e.received_at desc, e.id desc
        limit 1
    )
    union all
    (
        select e.operation, e.message_id, e.occurred_at, e.received_at from event e
        where e.account = n.account and e.customer = n.customer and e.operation <> 'upsert' and e.message_id like any ($3::text[]) and e.again_of is null
        order by e.occurred_at desc, e.received_at desc, e.id desc
        limit 1
    )
) w
