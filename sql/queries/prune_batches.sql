-- Delete batches of an account, with their uploads, behind the batch $2, up to $3 of them looked at, that ended more than $4 seconds ago and of which nothing is left in the log.
-- With $5, not those of which the vendor has a record of refused lines that relay is to delete: by it relay knows which.
with looked_at as materialized (
    select b.account, b.id, b.operation, b.cut_from, b.cut_to, b.state, greatest(b.ended_at, b.retried_at, b.dismissed_at) as ended_at
    from batch b
    where b.account = $1 and b.id > $2
    order by b.id
    limit $3
), doomed as materialized (
    select b.id from looked_at b
    where b.state in ('delivered', 'accepted', 'unconfirmed', 'failed', 'replaced')
      and b.ended_at < now() - make_interval(secs => $4)
      and b.cut_to <= (select c.pruned_to from cursor c where c.account = b.account and c.operation = b.operation)
      -- a replaced one, too: it may have gone up, and then belongs to the proof of what it held
      and (
          select true from event e
          where e.account = b.account and e.operation = b.operation and e.id > b.cut_from and e.id <= b.cut_to
            and ((select s.batch_id from superseded s where s.account = e.account and s.event_id = e.id) <= b.id) is not true
          order by e.id
          limit 1
      ) is not true
      and not ($5 and exists (select from error_record r where r.account = b.account and r.batch_id = b.id and r.deleted_at is null))
), no_longer_recorded as (
    delete from error_record r where r.account = $1 and r.batch_id = any (array(select id from doomed))
), no_longer_rejected as (
    delete from rejection r where r.account = $1 and r.batch_id = any (array(select id from doomed))
), no_longer_uploaded as (
    delete from upload u where u.account = $1 and u.batch_id = any (array(select id from doomed))
), deleted as (
    delete from batch b where b.account = $1 and b.id = any (array(select id from doomed)) returning b.id
)
select (select count(*) from looked_at) as looked_at, (select max(id) from looked_at) as until, (select count(*) from deleted) as deleted
