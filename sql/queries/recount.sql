-- Recount the next events of an operation behind $3, up to $4 of them, in one snapshot: where each is at home, and what of each batch is among them.
-- An event is pending (beyond the cursor), superseded, or in a batch that is not replaced and that no cut up to it left it out of; anything but one of these is a violation.
with at_cursor as materialized (
    select coalesce(max(position), 0) as position, coalesce(max(pruned_to), 0) as pruned_to
    from cursor where account = $1 and operation = $2
), looked_at as materialized (
    -- a look-up for each event, never a join over all that was ever superseded
    select e.id, (select s.batch_id from superseded s where s.account = $1 and s.event_id = e.id) as left_out_by
    from event e
    where e.account = $1 and e.operation = $2 and e.id > $3
    order by e.id
    limit $4
), seen as materialized (
    -- behind the last event there is nothing more: batches are recounted to their end
    select count(*) as events, case when count(*) < $4::bigint then 9223372036854775807 else max(id) end as until from looked_at
), near as materialized (
    select b.* from batch b
    where b.account = $1 and b.operation = $2 and b.state <> 'replaced' and b.cut_to > $3 and b.cut_to <= (select until from seen)
    union all
    select * from (
        -- what reaches beyond: one batch, or more where ranges overlap, which they must not
        select b.* from batch b
        where b.account = $1 and b.operation = $2 and b.state <> 'replaced' and b.cut_to > (select until from seen)
        order by b.cut_to
        limit 10
    ) beyond
    where cut_from < (select until from seen)
), ranges as materialized (
    select coalesce(array_agg(id order by cut_from, id), '{}') as ids, coalesce(array_agg(cut_from order by cut_from, id), '{}') as begins,
           (select coalesce(array_agg(cut_to order by cut_to), '{}') from near) as ends
    from near
), ranged as (
    -- how many ranges begin before an event, and how many end before it
    select l.*, width_bucket(l.id - 1, r.begins) as began, width_bucket(l.id - 1, r.begins) - width_bucket(l.id - 1, r.ends) as ranges
    from looked_at l cross join ranges r
), placed as (
    select g.*, case when g.ranges > 0 then r.ids[g.began] end as batch_id from ranged g cross join ranges r
), homed as materialized (
    select p.id, p.batch_id, p.left_out_by is not null as superseded, p.left_out_by is null and p.id > c.position as pending,
           case
               when p.ranges > 1 then case when p.left_out_by is null then p.ranges else 0 end
               else (p.batch_id is not null and (p.left_out_by <= p.batch_id) is not true)::int
           end as batches
    from placed p cross join at_cursor c
), judged as (
    select h.*, superseded::int + pending::int + batches as homes from homed h
), held as (
    select batch_id, count(*) as events from homed where batches = 1 group by batch_id
), astray as (
    -- refused lines that are no line of their file; events of a batch that retention has been at may be gone
    select n.id as batch_id, count(*) as lines
    from near n
    cross join at_cursor c
    join rejection r on r.account = n.account and r.batch_id = n.id
    left join lateral (
        select e.id from event e
        where e.account = r.account and e.id = r.event_id and e.operation = n.operation and e.id > n.cut_from and e.id <= n.cut_to
          and ((select s.batch_id from superseded s where s.account = e.account and s.event_id = e.id) <= n.id) is not true
        offset 0
    ) e on true
    where n.cut_to <= (select until from seen)
      and (r.line > n.rows + 1 or e.id is null and r.event_id > c.pruned_to)
    group by n.id
)
select s.events, nullif(s.until, 9223372036854775807) as until, c.position,
       j.pending, j.superseded, j.in_batches, j.lost, j.first_lost, j.last_lost, j.doubled, j.first_doubled, j.last_doubled,
       b.ids as batch_ids, b.begins, b.ends, b.filed, b.held, b.pruned, b.astray
from seen s
cross join at_cursor c
cross join (
    select count(*) filter (where homes = 1 and pending) as pending, count(*) filter (where homes = 1 and superseded) as superseded,
           count(*) filter (where homes = 1 and batches = 1) as in_batches,
           count(*) filter (where homes = 0) as lost, min(id) filter (where homes = 0) as first_lost, max(id) filter (where homes = 0) as last_lost,
           count(*) filter (where homes > 1) as doubled, min(id) filter (where homes > 1) as first_doubled, max(id) filter (where homes > 1) as last_doubled
    from judged
) j
cross join (
    select coalesce(array_agg(n.id order by n.cut_from, n.id), '{}') as ids,
           coalesce(array_agg(n.cut_from order by n.cut_from, n.id), '{}') as begins,
           coalesce(array_agg(n.cut_to order by n.cut_from, n.id), '{}') as ends,
           coalesce(array_agg(n.rows order by n.cut_from, n.id), '{}') as filed,
           coalesce(array_agg(coalesce(h.events, 0) order by n.cut_from, n.id), '{}') as held,
           coalesce(array_agg(n.cut_from < k.pruned_to order by n.cut_from, n.id), '{}') as pruned,
           coalesce(array_agg(coalesce(a.lines, 0) order by n.cut_from, n.id), '{}') as astray
    from near n cross join at_cursor k left join held h on h.batch_id = n.id left join astray a on a.batch_id = n.id
) b
