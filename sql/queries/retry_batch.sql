-- Append again a batch's dead letters (all of a failed or unconfirmed batch, else its rejections), as they were.
with dead as (
    select e.* from batch b
    join event e on e.account = b.account and e.operation = b.operation and e.id > b.cut_from and e.id <= b.cut_to
    where b.account = $1 and b.id = $2 and b.state in ('failed', 'unconfirmed')
      and b.retried_at is null and b.dismissed_at is null
      -- a look-up for each row, never a join over all that was ever superseded
      and ((select s.batch_id from superseded s where s.account = e.account and s.event_id = e.id) <= b.id) is not true
    union
    select e.* from rejection r
    join event e on e.account = r.account and e.id = r.event_id
    where r.account = $1 and r.batch_id = $2 and r.retried_at is null and r.dismissed_at is null
), marked as (
    update batch set retried_at = now()
    where account = $1 and id = $2 and state in ('failed', 'unconfirmed') and retried_at is null and dismissed_at is null
    returning account, operation, refused
), forgotten as (
    -- who acts on a line that was refused alone ends the row: it is not taken back any more
    update cursor c set refused_lines = 0, refused_from = null
    from marked m
    where m.refused and c.account = m.account and c.operation = m.operation
), marked_lines as (
    update rejection set retried_at = now()
    where account = $1 and batch_id = $2 and retried_at is null and dismissed_at is null
)
insert into event (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at, again_of)
select account, 'relay', format('again:%s:retry-%s', coalesce(again_of, id), $2::bigint), digest, operation, customer, layout, line,
       occurred_at, received_at, coalesce(again_of, id)
from dead
order by id
on conflict (source, message_id, account) do nothing
returning id
