-- Keep opt-outs until there is an address of their customer; those that are quiet ($10) are dismissed from the start.
insert into unresolved
    (account, source, message_id, customer_source, customer_id, digest, operation, occurred_at, received_at, dismissed_at)
select n.account, n.source, n.message_id, n.customer_source, n.customer_id, n.digest, n.operation, n.occurred_at, n.received_at,
       case when n.quiet then now() end
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::bytea[], $7::text[], $8::timestamptz[],
            $9::timestamptz[], $10::boolean[])
    as n(account, source, message_id, customer_source, customer_id, digest, operation, occurred_at, received_at, quiet)
