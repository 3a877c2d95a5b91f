-- Append events to the log in one statement; a known webhook is left out, even where its accounts have become more.
-- With $11 it is not looked for: who asks has done so, and may add events to it.
insert into event (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at)
select n.account, n.source, n.message_id, n.digest, n.operation, n.customer, n.layout, n.line,
       -- by Postgres's clock once more: a replica whose clock runs ahead must not make the last word
       least(n.occurred_at, now() + case when n.operation in ('upsert', 'allow') or n.occurred_at = n.received_at then interval '0' else interval '1 day' end),
       n.received_at
from unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::bytea[], $7::bigint[], $8::bytea[],
            $9::timestamptz[], $10::timestamptz[])
    as n(account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at)
left join lateral (
    -- the limit keeps this a look-up in the unique index for each row, never a join over the log
    select true as known from event k
    where not $11::boolean and k.source = n.source and k.message_id = n.message_id
    limit 1
) k on true
where k.known is null
on conflict (source, message_id, account) do nothing
returning account, source, message_id, id
