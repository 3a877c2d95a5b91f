-- Count an operation's events in a range, and how many of them are superseded: the rest must be a file's rows.
-- (a look-up for each event, never a join over all that was ever superseded)
select count(*) as events, count((select s.batch_id from superseded s where s.account = $1 and s.event_id = e.id)) as superseded
from event e
where e.account = $1 and e.operation = $2 and e.id > $3 and e.id <= $4
