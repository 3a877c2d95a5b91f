-- Join the lines among the next events of a batch behind event $6, in order, looking at up to $7 events.
select count(*) as looked_at, max(id) as last_id, string_agg(line, ''::bytea order by id) filter (where is_row) as lines
from (
    -- a look-up for each event, never a join over all that was ever superseded
    select e.id, e.line,
           ((select s.batch_id from superseded s where s.account = $1 and s.event_id = e.id) <= $5) is not true as is_row
    from event e
    where e.account = $1 and e.operation = $2 and e.id > greatest($3::bigint, $6::bigint) and e.id <= $4
    order by e.id
    limit $7
) looked_at
