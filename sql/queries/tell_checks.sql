-- Tell what the last check found for some accounts.
select account, fingerprint, checked_at, result from account_check where account = any($1::text[])
