-- Append again the lines that were rejected alone because the vendor never answered, as they were, where their time has come: after
-- $1[1] seconds the first time, $1[2] the second, and so on, the last of $1 ever after. Upserts only the first $2 times.
with waiting as (
    select b.account, b.id as batch_id, e.id as event_id
    from batch b
    join rejection r on r.account = b.account and r.batch_id = b.id
    join event e on e.account = r.account and e.id = r.event_id
    cross join lateral (
        select u.outcome from upload u
        where u.account = b.account and u.batch_id = b.id
        order by u.number desc
        limit 1
    ) last
    cross join lateral (
        select count(*) from event c
        where c.account = e.account and c.again_of = coalesce(e.again_of, e.id) and c.message_id like '%:retry-%'
    ) again
    where b.state = 'failed' and b.refused and b.retried_at is null and b.dismissed_at is null and last.outcome = 'unknown'
      and b.ended_at <= now() - make_interval(secs => ($1::float8[])[least(again.count + 1, cardinality($1::float8[]))])
      and (b.operation in ('delete', 'stop', 'ban') or (b.operation = 'upsert' and again.count < $2::int))
), marked as (
    -- whoever was first, another replica or an operator, has the row, and the condition is looked at once more behind them
    update batch b set retried_at = now()
    from waiting w
    where b.account = w.account and b.id = w.batch_id
      and b.state = 'failed' and b.retried_at is null and b.dismissed_at is null
    returning w.account, b.operation, w.batch_id, w.event_id
), forgotten as (
    -- what comes again counts anew: the same line three times in a row says nothing about the vendor
    update cursor c set refused_lines = 0, refused_from = null
    from (select distinct account, operation from marked) m
    where c.account = m.account and c.operation = m.operation
), marked_lines as (
    update rejection r set retried_at = now()
    from marked m
    where r.account = m.account and r.batch_id = m.batch_id and r.retried_at is null and r.dismissed_at is null
)
insert into event (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at, again_of)
select e.account, 'relay', format('again:%s:retry-%s', coalesce(e.again_of, e.id), m.batch_id), e.digest, e.operation, e.customer,
       e.layout, e.line, e.occurred_at, e.received_at, coalesce(e.again_of, e.id)
from marked m
join event e on e.account = m.account and e.id = m.event_id
order by e.account, e.id
on conflict (source, message_id, account) do nothing
returning account, operation
