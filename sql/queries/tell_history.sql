-- Count by bins of $1 seconds what was received and what ended in the last $2 seconds, of an account ($4) or of all.
-- What is told begins with a whole bin of $3 seconds; where all from $5 up to $6 is known, only what comes behind is counted.
with span as (
    select oldest, newest, case when $5 <= oldest then least(newest, greatest(oldest, $6)) else oldest end as since
    from (
        select date_bin(make_interval(secs => $3), now(), 'epoch') - make_interval(secs => $2::float8 - $3::float8) as oldest,
               date_bin(make_interval(secs => $1), now(), 'epoch') as newest
    ) bounds
), received as (
    select date_bin(make_interval(secs => $1), received_at, 'epoch') as begins_at, count(*) as events
    from event
    where received_at >= (select since from span)
      and received_at < (select newest + make_interval(secs => $1) from span)
      and again_of is null and ($4::text is null or account = $4)
    group by 1
), ended as (
    -- a line that may only echo an earlier upload is neither delivered nor rejected
    select date_bin(make_interval(secs => $1), b.ended_at, 'epoch') as begins_at,
           sum(b.rows - b.rejected - echoes.lines) filter (where b.state = 'delivered') as delivered,
           sum(b.rows - b.rejected - echoes.lines) filter (where b.state = 'accepted') as accepted,
           sum(b.rejected) as rejected
    from batch b
    cross join lateral (
        select count(*) as lines from rejection r where r.account = b.account and r.batch_id = b.id and r.unconfirmed
    ) echoes
    where b.ended_at >= (select since from span)
      and b.ended_at < (select newest + make_interval(secs => $1) from span)
      and b.state <> 'replaced' and ($4::text is null or b.account = $4)
    group by 1
)
select bin.begins_at, coalesce(r.events, 0)::bigint as received, coalesce(e.delivered, 0)::bigint as delivered,
       coalesce(e.accepted, 0)::bigint as accepted, coalesce(e.rejected, 0)::bigint as rejected,
       span.oldest, now() as now
from span
cross join lateral generate_series(span.since, span.newest, make_interval(secs => $1)) bin(begins_at)
left join received r on r.begins_at = bin.begins_at
left join ended e on e.begins_at = bin.begins_at
order by bin.begins_at
