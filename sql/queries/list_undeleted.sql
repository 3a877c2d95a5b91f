-- List the vendor's error records of a login that relay has taken over and not deleted, of accounts ($2).
select kind, date, count, account, batch_id, number, taken_at, deleted_at
from error_record
where login = $1 and deleted_at is null and account = any($2::text[])
order by date, kind
