-- Tell the lanes of some logins: who may work them, until when they wait, why they pause, and which settings ($2 seconds long) stay out,
-- wholly or with their data (`data:…`).
select login, generation, leased_until > now() as leased,
       case when leased_until > now() then extract(epoch from leased_until - now()) else 0 end::float8 as leased_s,
       case when not_before > now() then not_before end as waits_until,
       case when not_before > now() then extract(epoch from not_before - now()) else 0 end::float8 as wait_s,
       wait_reason, paused_at, pause_reason, pause_detail, paused_fingerprint, flush_to,
       recent.refused_fingerprints, recent.refused_data_fingerprints,
       case when refused_at > now() - make_interval(secs => $2) then refused_at + make_interval(secs => $2) end as refused_until,
       greatest(coalesce(extract(epoch from refused_at - now()) + $2, 0), 0)::float8 as refused_s,
       (select count(*) from unnest(refused_logins) moment where moment > now() - interval '1 hour') as refused_logins,
       case when calls_day = (now() at time zone 'Asia/Tokyo')::date then calls else 0 end as calls_today,
       extract(epoch from date_trunc('day', now() at time zone 'Asia/Tokyo' + interval '1 day') at time zone 'Asia/Tokyo' - now())::float8
           as day_left_s,
       coalesce(extract(epoch from now() - called_at), 'infinity')::float8 as since_call_s,
       case when met_day > (now() at time zone 'Asia/Tokyo')::date - 7 then met_calls end as met_calls
from lane
cross join lateral (
    select coalesce(array_agg(one) filter (where one not like 'data:%'), '{}') as refused_fingerprints,
           coalesce(array_agg(substr(one, 6)) filter (where one like 'data:%'), '{}') as refused_data_fingerprints
    from unnest(lane.refused_fingerprints) one
    where refused_at > now() - make_interval(secs => $2)
) recent
where login = any($1::text[])
order by login
