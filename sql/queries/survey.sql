-- Tell what each operation of each account has to do, for the lanes that may be worked now; $9 is the fence.
with target as (
    select * from unnest($1::text[], $2::text[], $3::text[], $4::float8[], $5::bigint[], $6::bigint[])
        as t(login, account, operation, flush_after_s, rows_max, bytes_max)
), workable as (
    -- some pauses hold up data only: it is not cut or sent, but what is open must give way to opt-outs
    select l.login, l.flush_to,
           (l.pause_reason in ('columns', 'data') and l.paused_fingerprint = f.fingerprint) is true
           or ('data:' || f.fingerprint = any(l.refused_fingerprints)
               and coalesce(l.refused_at > now() - make_interval(secs => $11), false)) as opt_outs_only
    from lane l
    join unnest($7::text[], $8::text[]) as f(login, fingerprint) using (login)
    where l.pause_reason is distinct from 'operator'
      and (l.paused_fingerprint is distinct from f.fingerprint or l.pause_reason in ('columns', 'data'))
      and not (f.fingerprint = any(l.refused_fingerprints) and coalesce(l.refused_at > now() - make_interval(secs => $11), false))
      and l.not_before <= now()
      and (l.leased_until <= now() or l.lease = $10::uuid)
)
select t.login, t.account, t.operation, c.position,
       c.not_before > now() or paused.data as waits,
       b.id as batch_id, b.state as batch_state, b.layout as batch_layout, b.header as batch_header,
       coalesce(w.due, false) as due,
       -- what has failed before waits since its next try is due, or it would always go before what has not been tried yet
       coalesce(
           extract(epoch from now() - greatest(coalesce(b.oldest_received_at, w.received_at),
               -- but who was only kept back for the day's calls keeps his place
               case when c.wait_reason <> 'quota' then c.not_before end
           )), 0
       )::float8 as age_s
from target t
join workable l using (login)
join cursor c using (account, operation)
cross join lateral (select l.opt_outs_only and t.operation not in ('delete', 'stop', 'ban') as data) paused
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
) w on b.id is null and not paused.data
where b.id is not null or w.received_at is not null
union all
-- an upload of an account that the settings name no longer, left by a replica that died: it would block its login for ever
select l.login, b.account, b.operation, c.position, false, b.id, b.state, b.layout, b.header, false,
       extract(epoch from now() - b.oldest_received_at)::float8
from workable l
join batch b on b.login = l.login and b.state = 'uploading'
join cursor c on c.account = b.account and c.operation = b.operation
where not exists (select from target t where t.account = b.account and t.operation = b.operation)
