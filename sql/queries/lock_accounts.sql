-- Let one transaction at a time follow the customers of some accounts ($1), and tell when it began.
-- Locked in one order for all, so that no two wait for each other. A replica that hangs here loses the lock after 10 s.
select now() as now,
       set_config('idle_in_transaction_session_timeout', '10s', true) as idle,
       pg_advisory_xact_lock(72354198, k.key)::text as locked
from (select distinct hashtext(a.account) as key from unnest($1::text[]) as a(account) order by 1) k
