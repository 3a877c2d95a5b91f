-- Count an operation's events in a range, and how many of them are superseded: the rest must be a file's rows.
select count(*) as events, count(s.event_id) as superseded
from event e
left join superseded s on s.account = e.account and s.event_id = e.id
where e.account = $1 and e.operation = $2 and e.id > $3 and e.id <= $4
