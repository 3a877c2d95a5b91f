-- Find the events of a customer ($2) in each of some accounts, up to $3 each, the latest occurred first.
select a.account, latest.id
from unnest($1::text[]) as a(account)
cross join lateral (
    select e.id from event e
    where e.account = a.account and e.customer = $2
    order by e.occurred_at desc
    limit $3
) latest
