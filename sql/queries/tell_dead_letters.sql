-- Count the events of each of some accounts that nobody will send unless an operator retries them, nor has dismissed.
select a.account,
       (
           coalesce((
               select sum(b.rows) from batch b
               where b.account = a.account and b.state in ('failed', 'unconfirmed') and not b.refused
                 and b.dismissed_at is null and b.retried_at is null
           ), 0)
           + (
               select count(*) from rejection r
               where r.account = a.account and r.dismissed_at is null and r.retried_at is null
           )
       )::bigint as dead_letters
from unnest($1::text[]) as a(account)
