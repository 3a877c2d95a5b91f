-- Tell for each cursor how many events wait beyond it, and how long the oldest of its events has not been settled.
-- Each «limit 1» keeps a look-up in a primary key from becoming a join over the log.
select c.account, c.operation, waiting.count - known.count as pending,
       extract(epoch from now() - least(first.since, dead.since, unanswered.since))::float8 as oldest_s
from cursor c
left join batch b on b.account = c.account and b.operation = c.operation and b.state in ('ready', 'uploading', 'waiting')
left join lateral (
    -- a stop that relay appended again keeps the time of its original, but has been unsettled only since the upload that made it
    -- necessary, which its message id names
    select coalesce(u.ended_at, f.received_at) as since
    from (
        select e.account, e.received_at, regexp_match(e.message_id, '^again:\d+:(\d+)\.(\d+)$') as made
        from event e
        left join lateral (
            select true as known from superseded s where s.account = e.account and s.event_id = e.id limit 1
        ) s on true
        where e.account = c.account and e.operation = c.operation and e.id > coalesce(b.cut_from, c.position)
          and s.known is null
        order by e.id
        limit 1
    ) f
    left join upload u on u.account = f.account and u.batch_id = f.made[1]::bigint and u.number = f.made[2]::int
) first on true
left join lateral (
    -- the cursor of an operation that is rare may be far behind: for it the log begins where something waits
    select e.id from event e
    where e.account = c.account and e.operation = c.operation and e.id > c.position
    order by e.id
    limit 1
) next on true
cross join lateral (
    select count(*) from event e
    where e.account = c.account and e.operation = c.operation and e.id >= next.id
) waiting
cross join lateral (
    -- events beyond a cursor that was set back may be known as superseded; they are few, whatever waits
    select count(*) from superseded s
    cross join lateral (
        select from event e where e.account = s.account and e.id = s.event_id and e.operation = c.operation limit 1
    ) own
    where s.account = c.account and s.event_id >= next.id
) known
left join lateral (
    select min(d.oldest_received_at) as since
    from batch d
    where d.account = c.account and d.operation = c.operation
      and d.state in ('failed', 'unconfirmed') and not d.refused and d.dismissed_at is null and d.retried_at is null
) dead on true
left join lateral (
    -- lines rejected alone without a word of the vendor's, which nobody has settled either
    select min(d.oldest_received_at) as since
    from batch d
    cross join lateral (
        select u.outcome from upload u where u.account = d.account and u.batch_id = d.id order by u.number desc limit 1
    ) last
    where d.account = c.account and d.operation = c.operation
      and d.state = 'failed' and d.refused and d.dismissed_at is null and d.retried_at is null and last.outcome = 'unknown'
) unanswered on true
order by c.account, c.operation
