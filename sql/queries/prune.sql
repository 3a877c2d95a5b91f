-- Delete what is settled for good among the next events of an operation behind $3, up to $4 of them, and older than $5 seconds; move `pruned_to`.
-- An event goes with all that relay appended again of it, or not at all; of one that stays, the last $6 copies stay. What stays and why: relay/store/pruning.py.
with cut as materialized (
    -- how far each operation was cut for good: no cursor is ever set back to before these
    select c.operation, least(c.position, b.cut_from, c.refused_from) as until
    from cursor c
    left join batch b on b.account = c.account and b.operation = c.operation and b.state in ('ready', 'uploading', 'waiting')
    where c.account = $1
), place as materialized (
    select now() - make_interval(secs => $5) as horizon, (select c.until from cut c where c.operation = $2) as until,
           exists (select from known_address k where k.account = $1) as followed
), looked_at as materialized (
    select n.* from (
        -- without an upper bound, or Postgres may read all that is below it
        select e.id, e.customer, e.occurred_at, e.received_at, e.again_of
        from event e
        where e.account = $1 and e.operation = $2 and e.id > $3
        order by e.id
        limit $4
    ) n
    where n.id <= (select until from place)
), old as materialized (
    select l.*, l.again_of is null or (select true from event o where o.account = $1 and o.id = l.again_of) is not true as original,
           -- what happened when it arrived; a replica whose clock runs ahead has appended it as what happened a little before
           $2 in ('upsert', 'allow') and l.occurred_at >= l.received_at - interval '100 milliseconds' as by_arrival
    from looked_at l
    where l.received_at < (select horizon from place)
), customer as materialized (
    select distinct customer from old where original
), standing as materialized (
    -- the last words of each customer, each of its kind; a word counts once its upload has ended
    select w.id
    from customer k
    cross join lateral (
        (
            select l.id from event l
            where $2 in ('upsert', 'delete')
              and l.account = $1 and l.customer = k.customer and (l.operation in ('upsert', 'delete')) is true and l.again_of is null
              and l.id <= (select c.until from cut c where c.operation = l.operation)
            order by l.occurred_at desc, l.operation in ('delete', 'stop', 'ban') desc, l.received_at desc, l.id desc
            limit 1
        )
        union all
        (
            select l.id from event l
            where $2 in ('stop', 'ban', 'allow')
              and l.account = $1 and l.customer = k.customer and l.operation <> 'upsert' and (l.operation in ('stop', 'ban', 'allow')) is true
              and l.again_of is null and l.id <= (select c.until from cut c where c.operation = l.operation)
            order by l.occurred_at desc, l.operation in ('delete', 'stop', 'ban') desc, l.received_at desc, l.id desc
            limit 1
        )
        union all
        (
            select l.id from event l
            where $2 = 'delete'
              and l.account = $1 and l.customer = k.customer and l.operation <> 'upsert' and (l.operation = 'delete') is true
              and l.again_of is null and l.id <= (select c.until from cut c where c.operation = l.operation)
            order by l.occurred_at desc, l.received_at desc, l.id desc
            limit 1
        )
        union all
        (
            -- the last delete that was sent: by it stops from before it hold no more
            select l.id from event l
            where $2 = 'delete'
              and l.account = $1 and l.customer = k.customer and l.operation <> 'upsert' and (l.operation = 'delete') is true
              and l.again_of is null and l.id <= (select c.until from cut c where c.operation = l.operation)
              and (select true from superseded s where s.account = $1 and s.event_id = l.id) is not true
              and (select true from rejection r where r.account = $1 and r.event_id = l.id limit 1) is not true
            order by l.occurred_at desc, l.received_at desc, l.id desc
            limit 1
        )
        union all
        (
            -- where customers are followed, leaves ($7) are words of a kind of their own, and end no other
            select l.id from event l
            where (select followed from place) and $2 in ('upsert', 'delete')
              and l.account = $1 and l.customer = k.customer and (l.operation in ('upsert', 'delete')) is true and l.again_of is null
              and not l.message_id like any ($7::text[]) and l.id <= (select c.until from cut c where c.operation = l.operation)
            order by l.occurred_at desc, l.operation in ('delete', 'stop', 'ban') desc, l.received_at desc, l.id desc
            limit 1
        )
        union all
        (
            select l.id from event l
            where (select followed from place) and $2 <> 'upsert'
              and l.account = $1 and l.customer = k.customer and l.operation <> 'upsert' and l.message_id like any ($7::text[])
              and l.again_of is null and l.id <= (select c.until from cut c where c.operation = l.operation)
            order by l.occurred_at desc, l.received_at desc, l.id desc
            limit 1
        )
        union all
        (
            select l.id from event l
            where (select followed from place) and $2 in ('delete', 'allow')
              and l.account = $1 and l.customer = k.customer and l.operation <> 'upsert' and (l.operation = $2) is true
              and not l.message_id like any ($7::text[])
              and l.again_of is null and l.id <= (select c.until from cut c where c.operation = l.operation)
            order by l.occurred_at desc, l.received_at desc, l.id desc
            limit 1
        )
        union all
        (
            select l.id from event l
            where (select followed from place) and $2 in ('stop', 'ban')
              and l.account = $1 and l.customer = k.customer and l.operation <> 'upsert' and (l.operation in ('stop', 'ban')) is true
              and not l.message_id like any ($7::text[])
              and l.again_of is null and l.id <= (select c.until from cut c where c.operation = l.operation)
            order by l.occurred_at desc, l.received_at desc, l.id desc
            limit 1
        )
        union all
        (
            -- the last record from after somebody has left, also of who was deleted since: by it who comes from there again is known to
            select l.id from event l
            where (select followed from place) and $2 = 'upsert'
              and l.occurred_at > (select min(f.left_at) from former_address f where f.account = $1 and f.customer = k.customer)
              and l.account = $1 and l.customer = k.customer and (l.operation = 'upsert') is true
              and l.again_of is null and l.id <= (select c.until from cut c where c.operation = l.operation)
            order by l.occurred_at desc, l.received_at desc, l.id desc
            limit 1
        )
    ) w
), opted_out as materialized (
    -- whose last word is an opt-out, of those of whom something happened when it arrived: a repeat would be the later word
    select k.customer
    from (select distinct o.customer from old o where o.original and o.by_arrival) k
    where (
            select l.operation = 'delete' from event l
            where l.account = $1 and l.customer = k.customer and (l.operation in ('upsert', 'delete')) is true and l.again_of is null
            order by l.occurred_at desc, l.operation in ('delete', 'stop', 'ban') desc, l.received_at desc, l.id desc
            limit 1
        )
       -- a stop outlives upserts, but for the leaves of those that are followed
       or ($2 = 'allow' or (select followed from place)) and (
            select l.operation <> 'allow' from event l
            where l.account = $1 and l.customer = k.customer and l.operation <> 'upsert' and (l.operation in ('stop', 'ban', 'allow')) is true
              and l.again_of is null
            order by l.occurred_at desc, l.operation in ('delete', 'stop', 'ban') desc, l.received_at desc, l.id desc
            limit 1
        )
), replaced as materialized (
    select o.* from old o
    where o.original and o.id not in (select id from standing)
      and not (o.by_arrival and o.customer in (select customer from opted_out))
), member as materialized (
    -- an original with its copies; or a copy by itself, that is one too many. Look-ups, never joins over the log
    select o.id as word, o.id from replaced o
    union all
    select o.id, c.id
    from replaced o
    cross join lateral (select c.id from event c where c.account = $1 and c.again_of = o.id offset 0) c
    union all
    select o.id, o.id
    from old o
    where not o.original
      and (select count(*) from (select from event c where c.account = $1 and c.again_of = o.again_of and c.id > o.id limit $6) later) >= $6
), unsettled as materialized (
    select m.word
    from member m
    cross join place p
    left join lateral (
        select near.state in ('delivered', 'accepted') or coalesce(near.retried_at, near.dismissed_at) is not null as settled,
               greatest(near.ended_at, near.retried_at, near.dismissed_at) as settled_at
        from (
            -- by its index, where few batches would make any other seem cheap
            select * from batch b
            where (b.account, b.operation, b.cut_to) >= ($1, $2, m.id) and b.state <> 'replaced'
            order by b.account, b.operation, b.cut_to
            limit 1
        ) near
        where near.account = $1 and near.operation = $2 and near.cut_from < m.id
    ) b on true
    where m.id > p.until
       or (select true from superseded s where s.account = $1 and s.event_id = m.id) is not true and (b.settled and b.settled_at < p.horizon) is not true
       or (
           select true from rejection r
           where r.account = $1 and r.event_id = m.id and (greatest(r.retried_at, r.dismissed_at) < p.horizon) is not true
           limit 1
       )
), witness as materialized (
    -- words by which an opt-out in the log was superseded, or its last copy: they belong to its proof. Of very many opt-outs the oldest go first
    select o.id as word
    from old o
    cross join lateral (
        select count(*) as opt_outs,
               bool_or((
                   select case when o.original then coalesce(y.again_of, y.id) else y.id end
                   from superseded s
                   join event y on y.account = $1 and y.id = s.by_event_id
                   where s.account = $1
                     and s.event_id = greatest(x.id, (select max(c.id) from event c where c.account = $1 and c.again_of = x.id))
               ) = o.id) as proves
        from (
            select x.id from event x
            where x.account = $1 and x.customer = o.customer and x.operation <> 'upsert' and (x.operation in ('delete', 'stop', 'ban')) is true
              and x.again_of is null and x.id <> coalesce(o.again_of, o.id) and x.occurred_at <= o.occurred_at
            order by x.occurred_at desc
            limit $8
        ) x
    ) x
    where o.id in (select word from member) and (x.proves or x.opt_outs >= $8)
    union all
    -- and so do allows from after a stop or ban in the log, which ended it
    select o.id
    from old o
    where o.original and $2 = 'allow'
      and (
          select true from event x
          where x.account = $1 and x.customer = o.customer and x.operation <> 'upsert' and (x.operation in ('stop', 'ban')) is true
            and x.occurred_at < o.occurred_at and x.again_of is null
          limit 1
      )
), doomed as materialized (
    select m.id from member m
    where m.word not in (select word from unsettled) and m.word not in (select word from witness)
), torn as materialized (
    -- files of opt-outs that lose their first line: from here on it could not be counted any more in which line the others stood
    select b.id, b.cut_from, b.cut_to
    from (
        select * from batch b
        where b.state <> 'replaced' and b.account = $1 and b.operation = $2 and b.cut_to >= (select min(id) from doomed)
        union all
        select * from batch b
        where b.state = 'replaced' and b.operation in ('delete', 'stop', 'ban') and b.account = $1 and b.operation = $2
          and b.cut_to >= (select min(id) from doomed)
    ) b
    where $2 in ('delete', 'stop', 'ban') and b.cut_from < (select max(id) from doomed)
      and exists (select from doomed d where d.id > b.cut_from and d.id <= b.cut_to)
      and exists (select from upload u where u.account = b.account and u.batch_id = b.id)
), proven as (
    insert into proven_line (account, event_id, batch_id, line)
    select $1, l.id, t.id, l.line
    from torn t
    cross join lateral (
        select e.id, 1 + row_number() over (order by e.id) as line
        from event e
        where e.account = $1 and e.operation = $2 and e.id > t.cut_from and e.id <= t.cut_to
          and ((select s.batch_id from superseded s where s.account = $1 and s.event_id = e.id) <= t.id) is not true
    ) l
    where l.id not in (select id from doomed)
      -- what was torn before has its lines
      and not exists (
          select from event e
          join proven_line p on p.account = e.account and p.event_id = e.id and p.batch_id = t.id
          where e.account = $1 and e.operation = $2 and e.id > t.cut_from and e.id <= t.cut_to
      )
    on conflict do nothing
), deleted as (
    delete from event e where e.account = $1 and e.id = any (array(select id from doomed)) returning e.id
), no_longer_superseded as (
    delete from superseded s where s.account = $1 and s.event_id = any (array(select id from doomed))
), no_longer_rejected as (
    delete from rejection r where r.account = $1 and r.event_id = any (array(select id from doomed))
), no_longer_proven as (
    delete from proven_line p where p.account = $1 and p.event_id = any (array(select id from doomed))
), been_at as (
    update cursor c set pruned_to = greatest(c.pruned_to, d.last)
    from (select max(id) as last from doomed) d
    where c.account = $1 and c.operation = $2 and d.last > c.pruned_to
)
select (select count(*) from looked_at) as looked_at, (select count(*) from old) as old, (select max(id) from looked_at) as until,
       (select count(*) from deleted) as deleted
