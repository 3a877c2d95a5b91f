-- Pause a lane for data, because the vendor does not know columns that the settings ($3) name; none if it pauses for more.
-- What other settings failed of is remembered for $4 seconds, as after an upload.
with told as (
    select login,
           paused_fingerprint <> $3 and pause_reason <> 'columns' as displaced,
           case when refused_at > now() - make_interval(secs => $4) then refused_fingerprints else '{}' end
               || case when pause_reason = 'data' then 'data:' || paused_fingerprint else paused_fingerprint end as then_refused
    from lane where login = $1
)
update lane
set paused_at = case when pause_reason = 'columns' and paused_fingerprint = $3 then paused_at else now() end,
    pause_reason = 'columns', pause_detail = $2, paused_fingerprint = $3,
    refused_fingerprints = case when displaced then then_refused else refused_fingerprints end,
    refused_at = case when displaced then now() else refused_at end
from told
where lane.login = told.login
  and (pause_reason is null or pause_reason = 'columns' or (pause_reason <> 'operator' and paused_fingerprint is distinct from $3))
returning true
