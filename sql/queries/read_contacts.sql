-- Read where some customers are, as their sources call them.
select k.*
from unnest($1::text[], $2::text[], $3::bytea[]) as n(account, source, customer_id)
join known_address k on k.account = n.account and k.source = n.source and k.customer_id = n.customer_id
