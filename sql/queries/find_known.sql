-- Find the events of webhooks that are known already, with the digests that they came with.
select e.account, e.source, e.message_id, e.id, e.digest
from unnest($1::text[], $2::text[]) as n(source, message_id)
join event e on e.source = n.source and e.message_id = n.message_id
