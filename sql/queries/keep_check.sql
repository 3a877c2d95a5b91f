-- Keep what a check found for each account, in place of what was found before.
insert into account_check (account, login, fingerprint, result)
select f.account, $1, $2, f.result::jsonb
from unnest($3::text[], $4::text[]) as f(account, result)
on conflict (account) do update
set login = excluded.login, fingerprint = excluded.fingerprint, checked_at = now(), result = excluded.result
