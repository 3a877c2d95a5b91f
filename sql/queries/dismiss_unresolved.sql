-- Dismiss what of a webhook waits for an address: it waits on, and counts no more. Returns how many rows.
with dismissed as (
    update unresolved set dismissed_at = now()
    where source = $1 and message_id = $2 and dismissed_at is null
    returning 1
)
select count(*) from dismissed
