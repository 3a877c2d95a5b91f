-- Let a lane wait or pause after an upload; $8 says that the vendor let relay in, which ends a pause that other settings made.
-- What those settings were is remembered for $9 seconds, so that who still has them does not come in between; as `data:…` where
-- only their data was refused, so that their opt-outs go on. Opt-outs, all that such settings send, prove nothing about it.
with before as (
    select login,
           case
               when $2::float8 is not null then now() + make_interval(secs => $2)
               -- the vendor's clock may be behind: what it refuses just after midnight still counts for the day before
               when $3 and (now() at time zone 'Asia/Tokyo')::time < '01:00' then now() + interval '5 minutes'
               when $3 then (date_trunc('day', now() at time zone 'Asia/Tokyo') + interval '1 day 30 s') at time zone 'Asia/Tokyo'
               else not_before end as waits_until,
           -- a wait because of refused logins outlasts whatever else an upload came to
           case when wait_reason = 'logins_refused' and not_before > now() then not_before end as logins_again_at,
           -- what holds up data only holds up only who has those settings, and opt-outs prove nothing about it
           $8 and (pause_reason in ('columns', 'data') is not true or paused_fingerprint is distinct from $7) as ends_pause,
           case
               when refused_at > now() - make_interval(secs => $9) then array_remove(refused_fingerprints, $7)
               else '{}' end as still_refused
    from lane where login = $1
), told as (
    select before.*,
           -- other settings' failure that is no longer told as the pause; whose columns are unknown may go on with opt-outs
           ($5::text is not null or ends_pause) and paused_fingerprint <> $7 and pause_reason is distinct from 'columns'
               as displaced,
           array_remove(array_remove(still_refused, paused_fingerprint), 'data:' || paused_fingerprint)
               || case when pause_reason = 'data' then 'data:' || paused_fingerprint else paused_fingerprint end as then_refused
    from before join lane using (login)
)
update lane
set not_before = greatest(waits_until, logins_again_at),
    wait_reason = case when logins_again_at >= waits_until then wait_reason else $4 end,
    paused_at = case
        when pause_reason = 'operator' then paused_at
        when $5::text is not null then now()
        when not ends_pause then paused_at end,
    pause_reason = case
        when pause_reason = 'operator' then pause_reason
        when $5::text is not null then $5
        when not ends_pause then pause_reason end,
    pause_detail = case
        when pause_reason = 'operator' then pause_detail
        when $5::text is not null then $6
        when not ends_pause then pause_detail
        else '' end,
    paused_fingerprint = case
        when $5::text is not null then $7
        when not ends_pause then paused_fingerprint end,
    refused_fingerprints = case
        when displaced then then_refused
        when $8 then still_refused
        else refused_fingerprints end,
    refused_at = case when displaced then now() else refused_at end
from told
where lane.login = told.login
