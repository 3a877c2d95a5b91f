-- Take the append lock exclusively: every append that has drawn ids has ended when this returns.
select pg_advisory_xact_lock(7235419866102)
