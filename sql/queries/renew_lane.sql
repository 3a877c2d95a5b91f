-- Renew a lease that is still ours, for $4 seconds from now.
update lane set leased_until = now() + make_interval(secs => $4)
where login = $1 and lease = $2 and generation = $3
returning true
