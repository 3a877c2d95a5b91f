-- Find who is at some places ($1, $2), of each up to $3, those that were last said to be there.
select k.*
from unnest($1::text[], $2::bytea[]) as n(account, customer)
cross join lateral (
    select * from known_address k
    where k.account = n.account and k.customer = n.customer
    order by k.occurred_at desc
    limit $3
) k
