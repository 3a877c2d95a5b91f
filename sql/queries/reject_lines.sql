-- Write down the lines that the vendor refused, each with its event. A line that may only echo an earlier upload is unconfirmed.
insert into rejection (account, batch_id, line, event_id, message, unconfirmed)
select b.account, b.id, r.line, lines.id, r.message, r.echo and coalesce(lines.again_of, lines.id) <= $6
from unnest($3::bigint[], $4::text[], $5::bool[]) as r(line, message, echo)
join (
    select e.id, e.again_of, row_number() over (order by e.id) + 1 as line
    from batch m
    join event e on e.account = m.account and e.operation = m.operation and e.id > m.cut_from and e.id <= m.cut_to
    where m.account = $1 and m.id = $2
      -- a look-up for each row, never a join over all that was ever superseded
      and ((select s.batch_id from superseded s where s.account = e.account and s.event_id = e.id) <= m.id) is not true
) lines on lines.line = r.line
join batch b on b.account = $1 and b.id = $2
returning unconfirmed
