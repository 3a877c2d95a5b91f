-- Name the cursors that have something to do but whose next try is later, and why: '' is after a failed attempt.
select c.account, c.operation, c.wait_reason
from cursor c
where c.not_before > now()
  and (
      exists (
          select from batch b
          where b.account = c.account and b.operation = c.operation and b.state in ('ready', 'uploading', 'waiting')
      )
      or (
          -- the order keeps the planner from walking over the log
          select e.id from event e
          where e.account = c.account and e.operation = c.operation and e.id > c.position
          order by e.id
          limit 1
      ) is not null
  )
