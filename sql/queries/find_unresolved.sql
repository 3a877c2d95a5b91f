-- Find what of a webhook waits for an address of its customer, by account.
select account, source, message_id, operation, occurred_at, received_at, dismissed_at, id
from unresolved
where source = $1 and message_id = $2
order by account
