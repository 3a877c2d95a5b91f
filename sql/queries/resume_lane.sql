-- Let a lane go on at once, whatever it paused or waited for; only a vendor that may still be importing is given its time.
update lane
set paused_at = null, pause_reason = null, pause_detail = '', paused_fingerprint = null,
    not_before = case when wait_reason = 'settling' then not_before else '-infinity' end,
    wait_reason = case when wait_reason = 'settling' then wait_reason else '' end
where login = $1
returning true
