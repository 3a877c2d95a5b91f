-- Keep some operations ($2) of some accounts back for $3 seconds, because the day's calls are kept for others.
-- A failed attempt's delay that is longer stays.
update cursor c
set not_before = greatest(c.not_before, until.until),
    wait_reason = case when c.not_before >= until.until then c.wait_reason else 'quota' end
from (select now() + make_interval(secs => $3) as until) until
where c.account = any($1::text[]) and c.operation = any($2::text[])
