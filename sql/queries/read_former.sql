-- Read when some customers have left some places, if they have.
select f.account, f.customer, f.source, f.customer_id, f.left_at
from unnest($1::text[], $2::bytea[], $3::text[], $4::bytea[]) as n(account, customer, source, customer_id)
join former_address f
    on f.account = n.account and f.customer = n.customer and f.source = n.source and f.customer_id = n.customer_id
