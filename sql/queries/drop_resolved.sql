-- Drop the opt-outs that have become events: in the transaction that appends these.
delete from unresolved u
using unnest($1::text[], $2::text[], $3::text[]) as n(source, message_id, account)
where u.account = n.account and u.source = n.source and u.message_id = n.message_id
