-- Find the words by which a customer ($1) stands at each account: the last upsert or delete, the last permission word, the last delete.
select a.account, word.id
from (select distinct account from cursor) a
cross join lateral (
    (
        -- «is true» keeps the planner from walking all of an operation's events where it has no statistics yet
        select e.id from event e
        where e.account = a.account and e.customer = $1 and (e.operation in ('upsert', 'delete')) is true
        order by e.occurred_at desc, e.operation in ('delete', 'stop', 'ban') desc, e.received_at desc, e.id desc
        limit 1
    )
    union
    (
        -- without upserts, as the index that holds none of a long history's
        select e.id from event e
        where e.account = a.account and e.customer = $1 and e.operation <> 'upsert'
          and (e.operation in ('stop', 'ban', 'allow')) is true
        order by e.occurred_at desc, e.operation in ('delete', 'stop', 'ban') desc, e.received_at desc, e.id desc
        limit 1
    )
    union
    (
        select e.id from event e
        where e.account = a.account and e.customer = $1 and e.operation <> 'upsert' and (e.operation = 'delete') is true
        order by e.occurred_at desc, e.operation in ('delete', 'stop', 'ban') desc, e.received_at desc, e.id desc
        limit 1
    )
) word
