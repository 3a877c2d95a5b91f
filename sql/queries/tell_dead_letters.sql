-- Count the events of each of some accounts that nobody will send unless an operator retries them, nor has dismissed; opt-outs apart.
with dead as (
    select b.account, b.operation, sum(b.rows) as events
    from batch b
    where b.account = any($1::text[]) and b.state in ('failed', 'unconfirmed') and not b.refused
      and b.dismissed_at is null and b.retried_at is null
    group by b.account, b.operation
    union all
    -- a look-up for each batch that has any, never a join over all batches
    select r.account, (select b.operation from batch b where b.account = r.account and b.id = r.batch_id), r.events
    from (
        select account, batch_id, count(*) as events
        from rejection
        where account = any($1::text[]) and dismissed_at is null and retried_at is null
        group by account, batch_id
    ) r
)
select a.account,
       coalesce(sum(d.events) filter (where d.operation in ('delete', 'stop', 'ban')), 0)::bigint as opt_outs,
       coalesce(sum(d.events) filter (where d.operation not in ('delete', 'stop', 'ban')), 0)::bigint as data
from unnest($1::text[]) as a(account)
left join dead d on d.account = a.account
group by a.account
