-- Tell the lanes of some logins: who may work them and until when they wait or why they pause.
select login, generation, leased_until > now() as leased,
       case when leased_until > now() then extract(epoch from leased_until - now()) else 0 end::float8 as leased_s,
       case when not_before > now() then not_before end as waits_until,
       case when not_before > now() then extract(epoch from not_before - now()) else 0 end::float8 as wait_s,
       wait_reason, paused_at, pause_reason, pause_detail, paused_fingerprint, flush_to,
       case when calls_day = (now() at time zone 'Asia/Tokyo')::date then calls else 0 end as calls_today
from lane
where login = any($1::text[])
order by login
