-- Append what followed webhooks come to. None of them is known, or it would have been left out before.
insert into event (account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at)
select n.account, n.source, n.message_id, n.digest, n.operation, n.customer, n.layout, n.line,
       -- by Postgres's clock once more: a replica whose clock runs ahead must not make the last word
       least(n.occurred_at, now() + case when n.operation in ('upsert', 'allow') or n.occurred_at = n.received_at then interval '0' else interval '1 day' end),
       n.received_at
from unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::bytea[], $7::bigint[], $8::bytea[],
            $9::timestamptz[], $10::timestamptz[])
    as n(account, source, message_id, digest, operation, customer, layout, line, occurred_at, received_at)
on conflict (source, message_id, account) do nothing
returning account, source, message_id, id
