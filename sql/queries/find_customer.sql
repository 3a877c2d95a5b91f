-- Find the events of a customer ($1) in every account that ever was, up to $2 each, the latest occurred first.
select a.account, latest.*
from (select distinct account from cursor) a
cross join lateral (
    select e.id as event_id, e.source, e.message_id, e.operation, e.occurred_at, e.received_at, e.again_of
    from event e
    where e.account = a.account and e.customer = $1
    order by e.occurred_at desc
    limit $2
) latest
order by a.account, latest.occurred_at desc, latest.event_id desc
