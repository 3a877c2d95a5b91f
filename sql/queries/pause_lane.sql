-- Pause a lane at an operator's word, until an operator resumes it.
update lane
set paused_at = case when pause_reason = 'operator' then paused_at else now() end,
    pause_reason = 'operator', pause_detail = $2
where login = $1
returning true
