-- List the vendor's error records of a login that relay has taken over.
select kind, date, count, account, batch_id, number, taken_at, deleted_at
from error_record
where login = $1
order by date, kind
