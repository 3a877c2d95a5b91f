-- Lease a lane that may be worked now, for $3 seconds; none if another replica has it. An own lease that could not be given back is no bar.
update lane l
set lease = $2, leased_until = now() + make_interval(secs => $3), generation = generation + 1
from (
    select login from lane
    where login = $1
      and (leased_until <= now() or lease = $2)
      and not_before <= now()
      and pause_reason is distinct from 'operator'
      and paused_fingerprint is distinct from $4
    for update skip locked
) free
where l.login = free.login
returning l.generation
