-- Count a login that the vendor refused just now; from the $2th within an hour on the lane waits until there are fewer.
with counted as (
    select login, array(select moment from unnest(refused_logins) moment where moment > now() - interval '1 hour') || now() as moments
    from lane where login = $1
    for update
), again as (
    select login, moments,
           case when cardinality(moments) >= $2::int then moments[cardinality(moments) - $2 + 1] + interval '1 hour' end as at
    from counted
)
update lane l
set refused_logins = moments,
    not_before = greatest(not_before, at),
    wait_reason = case when at >= not_before then 'logins_refused' else wait_reason end
from again
where l.login = again.login
returning case when at > now() then extract(epoch from at - now()) else 0 end::float8 as again_in_s
