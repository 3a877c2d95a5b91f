-- Count the events of a batch that its end confirmed by how long that took since their receipt, in buckets; and sum it up.
-- $3 are the buckets' upper bounds, negative and growing, so that what equals a bound lies within: bucket 0 is the first.
select array_length($3::float8[], 1) - width_bucket(-seconds, $3::float8[]) as bucket, count(*) as events, sum(seconds) as seconds
from (
    select extract(epoch from b.ended_at - e.received_at)::float8 as seconds,
           -- a look-up for each event, never a join over all that was ever superseded
           ((select s.batch_id from superseded s where s.account = $1 and s.event_id = e.id) <= b.id) is not true as is_row
    from batch b
    cross join lateral (
        select e.id, e.received_at
        from event e
        where e.account = b.account and e.operation = b.operation and e.id > b.cut_from and e.id <= b.cut_to
          -- what relay appended again is no webhook, and a refused line was not confirmed
          and e.again_of is null
          and e.id not in (select r.event_id from rejection r where r.account = $1 and r.batch_id = $2)
        offset 0
    ) e
    where b.account = $1 and b.id = $2 and b.state in ('delivered', 'accepted')
) confirmed
where is_row
group by 1
