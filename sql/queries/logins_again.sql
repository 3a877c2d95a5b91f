-- Tell for how many seconds nobody may log in, because the vendor has refused the login $2 times within an hour; 0 if anybody may.
select coalesce(extract(epoch from max(at) + interval '1 hour' - now()), 0)::float8
from (
    select moment as at, count(*) over (order by moment desc) as number
    from lane, unnest(refused_logins) moment
    where login = $1 and moment > now() - interval '1 hour'
) counted
where number = $2
