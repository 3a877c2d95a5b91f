-- Note that relay has all that one of the vendor's error records tells, by the upload that made it.
insert into error_record (login, kind, date, count, account, batch_id, number)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict do nothing
