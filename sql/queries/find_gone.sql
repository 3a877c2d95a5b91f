-- Find which of some events ($1, $2: account and id) are in the log no more.
select n.account, n.id
from unnest($1::text[], $2::bigint[]) as n(account, id)
where not exists (select from event e where e.account = n.account and e.id = n.id)
