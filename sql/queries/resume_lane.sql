-- Let a lane go on at once, whatever it paused or waited for; only a vendor that may still be importing is given its time.
-- Nor is a vendor asked sooner that has refused the login too often: it might lock it.
update lane
set paused_at = null, pause_reason = null, pause_detail = '', paused_fingerprint = null,
    refused_fingerprints = '{}', refused_at = null,
    not_before = case when wait_reason in ('settling', 'logins_refused') then not_before else '-infinity' end,
    wait_reason = case when wait_reason in ('settling', 'logins_refused') then wait_reason else '' end,
    -- whoever resumes a lane without calls knows better than what the vendor said
    met_day = case when wait_reason = 'quota' then null else met_day end
where login = $1
returning true
