-- Tell how a lane stands in the vendor's day, which is Japan's: calls, seconds left of it, seconds since the last call.
-- And after how many calls the vendor took no more, if it has said so within a week.
select case when l.calls_day = d.today then l.calls else 0 end as calls,
       extract(epoch from (d.today + 1)::timestamp at time zone 'Asia/Tokyo' - now())::float8 as left_s,
       coalesce(extract(epoch from now() - l.called_at), 'infinity')::float8 as since_call_s,
       case when l.met_day > d.today - 7 then l.met_calls end as met
from lane l
cross join (select (now() at time zone 'Asia/Tokyo')::date as today) d
where l.login = $1
