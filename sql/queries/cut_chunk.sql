-- Take the next events behind $3 into a cut, up to $5 of them: record the superseded, stop at limits and at another layout.
-- Without the number of a cut ($10) nothing is recorded. $12 and $13 are the sizes of the headers by layout. Returns how many were looked at, how far it came, and the rows, bytes, layout and age of what is left to send.
with looked_at as materialized (
    select id, customer, layout, octet_length(line) as bytes, occurred_at, received_at, again_of
    from event
    where account = $1 and operation = $2 and id > $3 and id <= $4
    order by id
    limit $5
), judged as materialized (
    -- what an earlier cut found stays superseded, even where that cut had a later fence than this one
    -- (a look-up for each row, never a join over all that was ever superseded)
    select r.*, coalesce((select s.by_event_id from superseded s where s.account = $1 and s.event_id = r.id), later.id) as by_id
    from looked_at r
    left join lateral (
        select l.id from event l
        -- not up to the fence only: what another replica has fenced since, and perhaps sent, counts as well
        where l.account = $1 and l.customer = r.customer
          -- «is true» keeps the planner from walking all of an operation's events where it has no statistics yet
          and (l.operation = any($6::text[])) is true
          and l.occurred_at >= r.occurred_at
          and (l.occurred_at, l.operation in ('delete', 'stop', 'ban'), l.received_at, l.id)
              > (r.occurred_at, $2 in ('delete', 'stop', 'ban'), r.received_at, r.id)
        order by l.occurred_at desc, l.operation in ('delete', 'stop', 'ban') desc, l.received_at desc, l.id desc
        limit 1
    ) later on true
), one_layout as (
    select l.layout, (
        select h.bytes from unnest($12::bigint[], $13::bigint[]) as h(layout, bytes) where h.layout = l.layout
    ) as header_bytes
    from (select coalesce($9::bigint, (select layout from judged where by_id is null order by id limit 1))) as l(layout)
), summed as materialized (
    -- materialized, or Postgres 15 pushes the limits below into the window and fails: «WindowFunc not found in subplan target lists»
    select j.*, coalesce(o.header_bytes, 0) as header_bytes,
           count(*) filter (where by_id is null) over w as row_count,
           sum(j.bytes) filter (where by_id is null) over w as byte_count,
           count(*) filter (where by_id is null and j.layout <> o.layout) over w as strangers
    from judged j cross join one_layout o
    window w as (order by id)
), taken as materialized (
    select * from summed
    where strangers = 0
      and row_count <= $7
      -- a single line is always taken, or a limit below its size would stop the cursor for ever; and all that is superseded
      -- before it, for what is taken must not have a gap
      and (header_bytes + coalesce(byte_count, 0) <= $8 or (row_count <= 1 and $11))
), recorded as (
    insert into superseded (account, event_id, by_event_id, batch_id)
    select $1, id, by_id, $10 from taken where by_id is not null and $10::bigint is not null
    on conflict do nothing
    returning 1
)
select (select count(*) from looked_at)::bigint as looked_at,
       count(*)::bigint as taken,
       coalesce(max(id), $3)::bigint as cut_to,
       count(*) filter (where by_id is null)::bigint as rows,
       coalesce(sum(bytes) filter (where by_id is null), 0)::bigint as bytes,
       max(layout) filter (where by_id is null)::bigint as layout,
       min(received_at) filter (where by_id is null) as oldest_received_at,
       min(received_at) filter (where by_id is null and again_of is null) as oldest_new_at,
       (select count(*) from recorded)::bigint as superseded
from taken
