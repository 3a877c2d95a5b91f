-- Name the accounts and operations that the settings ($1, $2) do not serve but that have something waiting or open.
select c.account, c.operation
from cursor c
where not exists (select from unnest($1::text[], $2::text[]) as s(account, operation) where s.account = c.account and s.operation = c.operation)
  and (
      exists (select from event e where e.account = c.account and e.operation = c.operation and e.id > c.position)
      or exists (
          select from batch b
          where b.account = c.account and b.operation = c.operation and b.state in ('ready', 'uploading', 'waiting')
      )
  )
union
-- opt-outs that still wait for an address of their customer
select u.account, u.operation
from unresolved u
where u.dismissed_at is null
  and not exists (select from unnest($1::text[], $2::text[]) as s(account, operation) where s.account = u.account and s.operation = u.operation)
order by 1, 2
