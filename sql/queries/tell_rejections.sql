-- Tell the lines of a batch that the vendor refused, behind line $3, up to $4 of them, each with the webhook that it came from.
select r.line, r.event_id, coalesce(original.source, e.source) as source,
       coalesce(original.message_id, e.message_id) as message_id, r.message, r.unconfirmed, r.dismissed_at, r.retried_at
from (
    select * from rejection where account = $1 and batch_id = $2 and line > $3 order by line limit $4
) r
left join event e on e.account = r.account and e.id = r.event_id
left join event original on original.account = e.account and original.id = e.again_of
order by r.line
