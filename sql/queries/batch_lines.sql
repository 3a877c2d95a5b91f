-- Join the next lines of a batch behind event $6, up to $7 of them, in order.
select count(*) as rows, max(id) as last_id, string_agg(line, ''::bytea order by id) as lines
from (
    select e.id, e.line
    from event e
    where e.account = $1 and e.operation = $2 and e.id > greatest($3::bigint, $6::bigint) and e.id <= $4
      and not exists (
          select from superseded s where s.account = e.account and s.event_id = e.id and s.batch_id <= $5
      )
    order by e.id
    limit $7
) lines
