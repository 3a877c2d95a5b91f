-- Find the words by which a customer ($1) stands at each account: the last upsert or delete, the last permission word, the last delete.
select w.account, w.id as event_id, w.source, w.message_id, w.operation, w.occurred_at, w.received_at, w.again_of
from (select distinct account from cursor) a
cross join lateral (
    (
        -- «is true» keeps the planner from walking all of an operation's events where it has no statistics yet
        select e.* from event e
        where e.account = a.account and e.customer = $1 and (e.operation in ('upsert', 'delete')) is true
        order by e.occurred_at desc, e.operation in ('delete', 'stop', 'ban') desc, e.received_at desc, e.id desc
        limit 1
    )
    union
    (
        -- without upserts, as the index that holds none of a long history's
        select e.* from event e
        where e.account = a.account and e.customer = $1 and e.operation <> 'upsert'
          and (e.operation in ('stop', 'ban', 'allow')) is true
        order by e.occurred_at desc, e.operation in ('delete', 'stop', 'ban') desc, e.received_at desc, e.id desc
        limit 1
    )
    union
    (
        select e.* from event e
        where e.account = a.account and e.customer = $1 and e.operation <> 'upsert' and (e.operation = 'delete') is true
        order by e.occurred_at desc, e.operation in ('delete', 'stop', 'ban') desc, e.received_at desc, e.id desc
        limit 1
    )
) w
