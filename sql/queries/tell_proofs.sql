-- Tell what proves some opt-outs ($1, $2: account and id of what a webhook made), and those that replaced them, one after the other.
-- A row for each upload that held one of them or a copy of it, the last $4 of each; looked for among the last $3 copies.
with recursive word as (
    select a.account, a.id as root, a.id, o.operation, 0 as depth
    from (select distinct account, id from unnest($1::text[], $2::bigint[]) as a(account, id)) a
    -- look-ups, never joins over the log
    cross join lateral (select e.operation from event e where e.account = a.account and e.id = a.id offset 0) o
    union all
    select w.account, w.root, coalesce(later.again_of, later.id), later.operation, w.depth + 1
    from word w
    cross join lateral (
        select greatest(w.id, (select max(c.id) from event c where c.account = w.account and c.again_of = w.id)) as id
    ) last
    cross join lateral (
        select s.by_event_id from superseded s where s.account = w.account and s.event_id = last.id offset 0
    ) s
    cross join lateral (select e.* from event e where e.account = w.account and e.id = s.by_event_id offset 0) later
    where w.operation in ('delete', 'stop', 'ban') and w.depth < $5::int
), opt_out as (
    select distinct account, id, operation from word where operation in ('delete', 'stop', 'ban')
), copy as (
    select o.account, o.id as word, o.operation, o.id from opt_out o
    union all
    select o.account, o.id, o.operation, c.id
    from opt_out o
    cross join lateral (
        select c.id from event c where c.account = o.account and c.again_of = o.id order by c.id desc limit $3
    ) c
), held as (
    -- a file holds what no cut up to its own had found superseded; a replaced batch may have gone up before
    select c.account, c.word, c.id as event_id, b.id as batch_id, b.login, b.operation, b.cut_from, b.state, b.sha256, b.rows, b.rejected,
           b.reported_success, b.reported_failure, b.ended_at as batch_ended_at, b.reason as batch_reason
    from copy c
    cross join lateral (
        (
            select * from batch
            where account = c.account and operation = c.operation and cut_to >= c.id and state <> 'replaced'
            order by cut_to
            limit 1
        )
        union all
        (
            select * from batch
            where account = c.account and operation = c.operation and cut_to >= c.id and state = 'replaced'
              and operation in ('delete', 'stop', 'ban') and cut_from < c.id
        )
    ) b
    where b.cut_from < c.id
      and ((select s.batch_id from superseded s where s.account = c.account and s.event_id = c.id) <= b.id) is not true
), sent as materialized (
    select * from (
        select h.*, u.number, u.started_at, u.ended_at, u.http_status, u.outcome, u.reason, u.bytes_sent, u.reply_excerpt,
               u.number = max(u.number) over (partition by h.account, h.batch_id, h.event_id) as is_last,
               row_number() over (partition by h.account, h.word order by u.started_at desc, h.batch_id desc, u.number desc) as back
        from held h
        join upload u on u.account = h.account and u.batch_id = h.batch_id
    ) numbered
    where back <= $4 + 1
), line as materialized (
    select h.account, h.batch_id, h.event_id, coalesce(p.line, counted.line) as line, r.refused
    from (select distinct account, batch_id, event_id, operation, cut_from from sent where back <= $4) h
    -- where retention has deleted others of the file, the line can no longer be counted
    left join lateral (
        select p.line from proven_line p where p.account = h.account and p.event_id = h.event_id and p.batch_id = h.batch_id limit 1
    ) p on true
    cross join lateral (
        select 1 + count(*) as line
        from event e
        where p.line is null and e.account = h.account and e.operation = h.operation and e.id > h.cut_from and e.id <= h.event_id
          -- a look-up for each row, never a join over all that was ever superseded
          and ((select s.batch_id from superseded s where s.account = e.account and s.event_id = e.id) <= h.batch_id) is not true
    ) counted
    cross join lateral (
        select exists (
            select from rejection r
            where r.account = h.account and r.event_id = h.event_id and r.batch_id = h.batch_id
        ) as refused
    ) r
)
select w.account, w.root, w.depth, w.id as word_id, w.operation, e.source, e.message_id, e.occurred_at, e.received_at,
       case
           when w.operation not in ('delete', 'stop', 'ban') then null
           when replaced.event_id is not null then 'superseded'
           when last.id > coalesce(c.position, 0) then 'pending'
           when r.unconfirmed then 'unconfirmed'
           when not r.unconfirmed then 'rejected'
           else b.state
       end as state,
       lifted.id as lifted_id, lifted.operation as lifted_operation, lifted.source as lifted_source,
       lifted.message_id as lifted_message_id, lifted.occurred_at as lifted_occurred_at, lifted.received_at as lifted_received_at,
       (s.back > $4) is true
       or (select count(*) > $3 from (select from event a where a.account = w.account and a.again_of = w.id limit $3 + 1) copies)
           as truncated,
       (s.back > $4) is true as left_out,
       s.event_id, s.login, s.batch_id, s.number, line.line, line.refused, s.sha256, s.rows, s.rejected, s.reported_success,
       s.reported_failure, s.started_at, s.ended_at, s.http_status, s.outcome, s.reason, s.bytes_sent, s.reply_excerpt,
       case when s.is_last then s.state end as came_to, case when s.is_last then s.batch_ended_at end as settled_at, case when s.is_last then s.batch_reason end as batch_reason
from word w
cross join lateral (select o.* from event o where o.account = w.account and o.id = w.id offset 0) e
cross join lateral (
    select greatest(w.id, (select max(a.id) from event a where a.account = w.account and a.again_of = w.id)) as id
) last
left join lateral (
    select x.event_id from superseded x where x.account = w.account and x.event_id = last.id offset 0
) replaced on true
left join cursor c on c.account = w.account and c.operation = w.operation
left join lateral (
    select near.state
    from (
        select state, cut_from from batch
        where account = w.account and operation = w.operation and cut_to >= last.id and state <> 'replaced'
        order by cut_to
        limit 1
    ) near
    where near.cut_from < last.id
) b on true
left join lateral (
    select x.unconfirmed from rejection x where x.account = w.account and x.event_id = last.id order by x.batch_id desc limit 1
) r on true
cross join lateral (
    select case
        when w.operation = 'delete' then e.occurred_at
        else (
            -- a stop or ban outlives a deletion that was never sent, or that the vendor refused
            select d.occurred_at from event d
            where d.account = e.account and d.customer = e.customer and d.operation <> 'upsert' and (d.operation = 'delete') is true
              and d.occurred_at >= e.occurred_at and (d.occurred_at, d.received_at, d.id) > (e.occurred_at, e.received_at, e.id)
              and d.id <= (select k.position from cursor k where k.account = d.account and k.operation = 'delete')
              and (select true from superseded s where s.account = d.account and s.event_id = d.id) is not true
              and (select true from rejection r where r.account = d.account and r.event_id = d.id limit 1) is not true
            order by d.occurred_at
            limit 1
        )
    end as deleted_at
) gone
left join lateral (
    -- an allow ends a stop or ban; so does an upsert behind a later deletion that was sent, as it ends a deletion by itself
    select l.* from (
        (
            select l.* from event l
            where w.depth = 0 and w.operation in ('stop', 'ban')
              and l.account = e.account and l.customer = e.customer and l.operation <> 'upsert' and (l.operation = 'allow') is true
              and l.again_of is null and l.occurred_at > e.occurred_at
            order by l.occurred_at, l.received_at, l.id
            limit 1
        )
        union all
        (
            select l.* from event l
            where w.depth = 0 and w.operation in ('delete', 'stop', 'ban')
              and l.account = e.account and l.customer = e.customer and (l.operation = 'upsert') is true and l.again_of is null
              and l.occurred_at > gone.deleted_at
            order by l.occurred_at, l.received_at, l.id
            limit 1
        )
    ) l
    order by l.occurred_at, l.received_at, l.id
    limit 1
) lifted on true
left join sent s on s.account = w.account and s.word = w.id
left join line on line.account = s.account and line.batch_id = s.batch_id and line.event_id = s.event_id
order by w.account, w.root, w.depth, s.started_at, s.batch_id, s.number
