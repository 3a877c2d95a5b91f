-- Find the events of webhooks ($1, $2) that are known already, those that were added to them ($3) too, and what waits unresolved.
-- What waits has no id yet.
with n as materialized (
    select w.source, w.webhook_id, w.webhook_id || s.suffix as message_id
    from unnest($1::text[], $2::text[]) as w(source, webhook_id)
    cross join unnest(array[''] || $3::text[]) as s(suffix)
)
select n.source, n.webhook_id, e.account, e.message_id, e.id, e.digest
from n
-- a look-up for each row, never a join over the log
cross join lateral (select * from event e where e.source = n.source and e.message_id = n.message_id offset 0) e
union all
select n.source, n.webhook_id, u.account, u.message_id, null, u.digest
from n
cross join lateral (select * from unresolved u where u.source = n.source and u.message_id = n.message_id offset 0) u
