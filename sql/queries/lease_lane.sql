-- Lease a lane that may be worked now, for $3 seconds; none if another replica has it. An own lease that could not be given back is no bar.
-- Settings ($4) that were refused stay out for $5 seconds, while others may work it; not those whose data was (`data:…`).
update lane l
set lease = $2, leased_until = now() + make_interval(secs => $3), generation = generation + 1
from (
    select login from lane
    where login = $1
      and (leased_until <= now() or lease = $2)
      and not_before <= now()
      and pause_reason is distinct from 'operator'
      -- some pauses hold up data only, which the survey leaves out
      and (paused_fingerprint is distinct from $4 or pause_reason in ('columns', 'data'))
      and not ($4 = any(refused_fingerprints) and coalesce(refused_at > now() - make_interval(secs => $5), false))
    for update skip locked
) free
where l.login = free.login
returning l.generation
