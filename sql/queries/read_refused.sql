-- Read the lines of a batch that the vendor refused, as they were sent.
select r.line, e.line as content
from rejection r
join event e on e.account = r.account and e.id = r.event_id
where r.account = $1 and r.batch_id = $2
order by r.line
