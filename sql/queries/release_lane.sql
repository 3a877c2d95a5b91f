-- Give a lane back.
update lane set lease = null, leased_until = '-infinity'
where login = $1 and lease = $2 and generation = $3
