-- Append again the stop or ban of each customer in a file of upserts that may have arrived, where it is the last permission
-- word and had been cut before: the upsert may have undone it at the vendor.
insert into event (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at, again_of)
select w.account, 'relay', format('again:%s:%s.%s', coalesce(w.again_of, w.id), b.id, $3::int), w.digest, w.operation,
       w.customer, w.layout, w.line, w.occurred_at, w.received_at, coalesce(w.again_of, w.id)
from batch b
join event u on u.account = b.account and u.operation = b.operation and u.id > b.cut_from and u.id <= b.cut_to
cross join lateral (
    select l.* from event l
    where l.account = u.account and l.customer = u.customer and l.operation <> 'upsert'
    order by l.occurred_at desc, l.operation in ('delete', 'stop', 'ban') desc, l.received_at desc, l.id desc
    limit 1
) w
join cursor c on c.account = w.account and c.operation = w.operation
where b.account = $1 and b.id = $2 and w.operation in ('stop', 'ban') and w.id <= c.position
  -- a look-up for each row, never a join over all that was ever superseded
  and ((select s.batch_id from superseded s where s.account = u.account and s.event_id = u.id) <= b.id) is not true
order by w.id
on conflict (source, message_id, account) do nothing
returning operation
