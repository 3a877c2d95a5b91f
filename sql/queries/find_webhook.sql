-- Find the events of a webhook by their message ids ($2), and of each the last one that relay appended again.
select e.account, found.id
from event e
cross join lateral (
    select e.id
    union all
    (select a.id from event a where a.account = e.account and a.again_of = e.id order by a.id desc limit 1)
) found
where e.source = $1 and e.message_id = any($2::text[])
order by e.account, found.id
