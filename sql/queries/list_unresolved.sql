-- List opt-outs that wait for an address of their customer and are not dismissed, of a source ($1) or all, oldest first.
select account, source, message_id, operation, occurred_at, received_at, dismissed_at, id
from unresolved
where dismissed_at is null and ($1::text is null or source = $1) and id > $2
order by id
limit $3
