-- Tell for each cursor how many events wait beyond it, and how long the oldest of its events has not been settled.
select c.account, c.operation, case when first.since is null then 0 else waiting.count - known.count end as pending,
       extract(epoch from now() - least(first.since, dead.since))::float8 as oldest_s
from cursor c
left join batch b on b.account = c.account and b.operation = c.operation and b.state in ('ready', 'uploading', 'waiting')
left join lateral (
    -- a stop that relay appended again keeps the time of its original, but has been unsettled only since the upload that made it
    -- necessary, which its message id names
    select coalesce(u.ended_at, f.received_at) as since
    from (
        select e.account, e.received_at, regexp_match(e.message_id, '^again:\d+:(\d+)\.(\d+)$') as made
        from event e
        left join superseded s on s.account = e.account and s.event_id = e.id
        where e.account = c.account and e.operation = c.operation and e.id > coalesce(b.cut_from, c.position)
          and s.event_id is null
        order by e.id
        limit 1
    ) f
    left join upload u on u.account = f.account and u.batch_id = f.made[1]::bigint and u.number = f.made[2]::int
) first on true
left join lateral (
    select count(*) from event e
    where e.account = c.account and e.operation = c.operation and e.id > c.position and first.since is not null
) waiting on true
left join lateral (
    -- events beyond a cursor that was set back may be known as superseded; they are few, whatever waits
    select count(*) from superseded s
    join event e on e.account = s.account and e.id = s.event_id
    where s.account = c.account and s.event_id > c.position and e.id > c.position and first.since is not null
      -- «is true» keeps the planner from walking all that waits where it has no statistics yet
      and (e.operation = c.operation) is true
) known on true
left join lateral (
    select min(d.oldest_received_at) as since
    from batch d
    where d.account = c.account and d.operation = c.operation
      and d.state in ('failed', 'unconfirmed') and not d.refused and d.dismissed_at is null and d.retried_at is null
) dead on true
order by c.account, c.operation
