-- Remember that a lane was checked just now with these settings ($2), and that the next check is due in $3 seconds.
update lane
set checked_at = now(), checked_fingerprint = $2, check_due_at = now() + make_interval(secs => $3)
where login = $1
