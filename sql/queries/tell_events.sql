-- Tell what became of events that were found: account, id, operation and again_of are given, so that none is read twice.
-- An event's state is the first that fits, so it has exactly one.
select e.account, e.id as event_id, s.by_event_id as superseded_by, again.id as retried_as,
       b.id as batch_id, coalesce(b.reason, '') as batch_reason, u.started_at as uploaded_at, b.ended_at as settled_at,
       coalesce(b.dismissed_at, r.dismissed_at) is not null as dismissed,
       r.line, r.message,
       case
           when s.event_id is not null then 'superseded'
           when e.id > coalesce(c.position, 0) then 'pending'
           when again.id is not null then 'retried'
           when r.unconfirmed then 'unconfirmed'
           when r.line is not null then 'rejected'
           else b.state
       end as state
from unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[]) as e(account, id, operation, again_of)
left join cursor c on c.account = e.account and c.operation = e.operation
left join superseded s on s.account = e.account and s.event_id = e.id
left join lateral (
    select max(a.id) as id from event a
    where a.account = e.account and a.again_of = coalesce(e.again_of, e.id) and a.id > e.id
) again on true
left join lateral (
    -- ranges of batches that are not replaced do not overlap: the first that reaches to the event is the one that holds it
    select near.id, near.state, near.reason, near.ended_at, near.dismissed_at
    from (
        select * from batch
        where account = e.account and operation = e.operation and cut_to >= e.id and state <> 'replaced'
          and e.id <= c.position and s.event_id is null
        order by cut_to
        limit 1
    ) near
    where near.cut_from < e.id
) b on true
left join lateral (
    select started_at from upload
    where account = e.account and batch_id = b.id
    order by number desc
    limit 1
) u on true
left join lateral (
    select line, message, unconfirmed, dismissed_at
    from rejection
    where account = e.account and event_id = e.id
    order by batch_id desc
    limit 1
) r on true
