-- Find a batch's last upload that ended unknown, if it went up whole and the vendor did not answer it, unless something may have
-- been imported since, and what else of its login ($3) may have left a record of the same kind. $4 and $5 are for how many seconds an upload may do so whose import is over, or may not be.
with mine as (
    select u.account, u.batch_id, u.number, u.started_at, u.ended_at, u.whole, u.http_status, u.reply_excerpt,
           b.operation = 'delete' as deletes
    from upload u
    join batch b on b.account = u.account and b.id = u.batch_id
    where u.account = $1 and u.batch_id = $2 and u.outcome = 'unknown'
    order by u.number desc
    limit 1
), around as (
    select o.started_at, o.ended_at, o.number,
           o.account = m.account and o.batch_id = m.batch_id as own,
           coalesce(o.outcome, 'unknown') = 'unknown' as unanswered,
           -- what had no failures left no record
           (b.operation = 'delete') = m.deletes and o.reply_excerpt !~ '\mfailure 0\M' as leaves
    from mine m
    join upload o on o.started_at > m.started_at - interval '3 hours'
    join batch b on b.account = o.account and b.id = o.batch_id
    left join error_record e on e.account = o.account and e.batch_id = o.batch_id and e.number = o.number
    where b.login = $3 and (o.account, o.batch_id, o.number) <> (m.account, m.batch_id, m.number)
      -- what was settled from a record was never sent, and the record of what it was settled for is known
      and (coalesce(o.outcome, 'unknown') = 'unknown' and e.login is null
           or o.outcome in ('delivered', 'accepted', 'misconfigured', 'refused') and o.bytes_sent > 0)
), others as (
    -- the vendor imports one file at a time: an import without an answer was over when the next file was taken
    select a.*, case when a.unanswered then next.began_at else a.ended_at end as over_at
    from around a
    cross join mine m
    cross join lateral (
        select min(n.started_at) as began_at from around n
        where not n.unanswered and n.started_at >= a.ended_at and n.started_at < m.started_at
    ) next
    where a.leaves
)
select m.number,
       extract(epoch from now() - m.started_at)::float8 as started_ago_s,
       extract(epoch from now() - m.ended_at)::float8 as ended_ago_s,
       extract(epoch from now() - (select min(o.started_at) from others o where o.started_at > m.started_at))::float8 as next_ago_s,
       exists (
           select from others o
           where o.started_at <= m.started_at
             -- an earlier upload of the same file leaves a record that is as true
             and not (o.own and o.unanswered)
             and coalesce(o.over_at > m.started_at - make_interval(secs => $4::float8),
                          coalesce(o.ended_at, now()) > m.started_at - make_interval(secs => $5::float8))
       ) as crowded,
       m.whole is not null as known_whole
from mine m
where m.whole is not false
  -- What the vendor did answer counts, whatever its record says. These are a proxy's, and a page or nothing in place of counts or a message.
  and (m.http_status is null or m.http_status in (408, 502, 503, 504)
       or m.http_status = 200 and m.reply_excerpt !~ '\m(success|failure) [0-9]|Failure_')
  and not exists (select from around a where a.own and a.number > m.number)
