-- Tell what each cursor of some accounts has to do: its open batch, and the first event that waits beyond it.
select c.account, c.operation, c.position, c.attempts, c.rows_max, c.bytes_max,
       case when c.not_before > now() then extract(epoch from c.not_before - now()) else 0 end::float8 as next_try_s,
       c.wait_reason,
       coalesce(tried.reason, '') as tried_reason,
       b.id as batch_id, b.state as batch_state,
       first.id as first_id, extract(epoch from now() - first.received_at)::float8 as first_age_s,
       (
           -- the order keeps the planner from walking over all that was ever appended again to an account
           select again.id from event again
           where again.account = c.account and again.operation = c.operation and again.again_of is not null
             and again.id > c.position
           order by again.id
           limit 1
       ) is not null as again
from cursor c
left join batch b on b.account = c.account and b.operation = c.operation and b.state in ('ready', 'uploading', 'waiting')
left join lateral (
    select id, received_at from event
    where account = c.account and operation = c.operation and id > c.position
    order by id
    limit 1
) first on true
left join lateral (
    -- an un-cut batch tells why it was un-cut, its upload why it has to be tried again
    select u.reason from batch t
    join upload u on u.account = t.account and u.batch_id = t.id
    where t.account = c.account and t.operation = c.operation and c.attempts > 0
    order by t.id desc, u.number desc
    limit 1
) tried on true
where c.account = any($1::text[])
order by c.account, c.operation
