-- Name the lanes that may be worked now and whose accounts' columns are to be compared with the vendor's.
-- $3: another replica's check, of other settings, is no reason. $4: columns that do not fit are to pause the lane.
-- After $5 seconds any check is too old.
select l.login
from lane l
join unnest($1::text[], $2::text[], $3::boolean[], $4::boolean[]) as f(login, fingerprint, checked_lately, pauses) using (login)
where l.pause_reason is distinct from 'operator'
  and (l.paused_fingerprint is distinct from f.fingerprint or l.pause_reason = 'columns')
  and l.not_before <= now()
  and (l.leased_until <= now() or l.lease = $6::uuid)
  and not (f.fingerprint = any(l.refused_fingerprints)
           and coalesce(l.refused_at > now() - make_interval(secs => $7), false))
  and (l.checked_fingerprint is null
       or (l.checked_fingerprint <> f.fingerprint and not f.checked_lately)
       or l.check_due_at <= now()
       or l.checked_at < now() - make_interval(secs => $5)
       -- what they did not fit paused the lane, and other settings have ended that
       or (f.pauses and l.paused_fingerprint is distinct from f.fingerprint and exists (
           select from account_check c
           where c.login = l.login and c.fingerprint = f.fingerprint and c.result ->> 'result' = 'columns'
       )))
