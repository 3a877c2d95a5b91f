-- Name the accounts that the settings ($1) do not name but that have something waiting or open.
select distinct c.account
from cursor c
where c.account <> all($1::text[])
  and (
      exists (select from event e where e.account = c.account and e.operation = c.operation and e.id > c.position)
      or exists (
          select from batch b
          where b.account = c.account and b.operation = c.operation and b.state in ('ready', 'uploading', 'waiting')
      )
  )
order by c.account
