-- Tell what each operation of each account has to do, for the lanes that may be worked now; $9 is the fence.
with target as (
    select * from unnest($1::text[], $2::text[], $3::text[], $4::float8[], $5::bigint[], $6::bigint[])
        as t(login, account, operation, flush_after_s, rows_max, bytes_max)
), workable as (
    select l.login, l.flush_to
    from lane l
    join unnest($7::text[], $8::text[]) as f(login, fingerprint) using (login)
    where l.pause_reason is distinct from 'operator'
      and l.paused_fingerprint is distinct from f.fingerprint
      and l.not_before <= now()
      and (l.leased_until <= now() or l.lease = $10::uuid)
)
select t.login, t.account, t.operation, c.position, c.not_before > now() as waits,
       b.id as batch_id, b.state as batch_state, b.layout as batch_layout, b.header as batch_header,
       coalesce(w.due, false) as due,
       coalesce(extract(epoch from now() - coalesce(b.oldest_received_at, w.received_at)), 0)::float8 as age_s
from target t
join workable l using (login)
join cursor c using (account, operation)
left join batch b on b.account = t.account and b.operation = t.operation and b.state in ('ready', 'uploading', 'waiting')
left join lateral (
    select first.received_at,
           first.received_at <= now() - make_interval(secs => t.flush_after_s)
           -- stamped by a clock that ran ahead: what is behind it must not wait for that moment
           or first.received_at > now() + interval '1 minute'
           or first.id <= l.flush_to
           or (
               -- the order keeps the planner from walking over all that was ever appended again to an account
               select again.id from event again
               where again.account = t.account and again.operation = t.operation and again.again_of is not null
                 and again.id > c.position and again.id <= $9
               order by again.id
               limit 1
           ) is not null
           or (
               select count(*) >= least(t.rows_max, c.rows_max) or sum(octet_length(line)) >= least(t.bytes_max, c.bytes_max)
               from (
                   select line from event
                   where account = t.account and operation = t.operation and id > c.position and id <= $9
                   order by id
                   limit least(t.rows_max, c.rows_max, 200000)
               ) waiting
           ) as due
    from (
        select id, received_at from event
        where account = t.account and operation = t.operation and id > c.position and id <= $9
        order by id
        limit 1
    ) first
) w on b.id is null
where b.id is not null or w.received_at is not null
union all
-- an upload of an account that the settings name no longer, left by a replica that died: it would block its login for ever
select l.login, b.account, b.operation, c.position, false, b.id, b.state, b.layout, b.header, false,
       extract(epoch from now() - b.oldest_received_at)::float8
from workable l
join batch b on b.login = l.login and b.state = 'uploading'
join cursor c on c.account = b.account and c.operation = b.operation
where not exists (select from target t where t.account = b.account and t.operation = b.operation)
