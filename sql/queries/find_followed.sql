-- Find the events of webhooks ($1, $2) that are known already, those that were added to them ($3) too, and what waits unresolved.
select n.source, n.message_id as webhook_id, e.account, e.message_id, e.id, e.digest
from unnest($1::text[], $2::text[]) as n(source, message_id)
cross join unnest(array[''] || $3::text[]) as s(suffix)
-- a look-up for each row, never a join over the log
cross join lateral (
    select * from event e where e.source = n.source and e.message_id = n.message_id || s.suffix offset 0
) e
union all
select n.source, n.message_id, u.account, null, null, u.digest
from unnest($1::text[], $2::text[]) as n(source, message_id)
join unresolved u on u.source = n.source and u.message_id = n.message_id
