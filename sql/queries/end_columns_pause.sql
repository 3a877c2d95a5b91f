-- End a pause because of unknown columns; none if the lane does not pause for that.
update lane
set paused_at = null, pause_reason = null, pause_detail = '', paused_fingerprint = null
where login = $1 and pause_reason = 'columns'
returning true
