-- Tell the uploads of a batch in their order.
select number, started_at, ended_at, http_status, outcome, reason, bytes_sent, reply_excerpt
from upload
where account = $1 and batch_id = $2
order by number
