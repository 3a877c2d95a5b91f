-- Find the events of a webhook by their message ids ($2), and of each the last one that relay appended again.
select f.account, f.id as event_id, f.source, f.message_id, f.operation, f.occurred_at, f.received_at, f.again_of
from event e
cross join lateral (
    select e.id
    union all
    (select a.id from event a where a.account = e.account and a.again_of = e.id order by a.id desc limit 1)
) found
join event f on f.account = e.account and f.id = found.id
where e.source = $1 and e.message_id = any($2::text[])
order by f.account, f.id
