-- Let a lane wait or pause after an upload; $8 says that the vendor let relay in, which ends a pause that other settings made.
update lane
set not_before = case
        when $2::float8 is not null then now() + make_interval(secs => $2)
        when $3 then (date_trunc('day', now() at time zone 'Asia/Tokyo') + interval '1 day') at time zone 'Asia/Tokyo'
        else not_before end,
    wait_reason = $4,
    paused_at = case
        when pause_reason = 'operator' then paused_at
        when $5::text is not null then now()
        when not $8 then paused_at end,
    pause_reason = case
        when pause_reason = 'operator' then pause_reason
        when $5::text is not null then $5
        when not $8 then pause_reason end,
    pause_detail = case
        when pause_reason = 'operator' then pause_detail
        when $5::text is not null then $6
        when not $8 then pause_detail
        else '' end,
    -- the settings that failed are forgotten with the pause: a lane may not be left out without one that can be seen
    paused_fingerprint = case
        when $5::text is not null then $7
        when not $8 then paused_fingerprint end
where login = $1
