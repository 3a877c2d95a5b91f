-- Count by source the opt-outs that wait for an address and are not dismissed: the webhooks, of the $1 rows that wait longest.
select source, count(distinct message_id) as webhooks
from (select source, message_id from unresolved where dismissed_at is null order by id limit $1) waiting
group by source
