-- Say whether relay has taken one of the vendor's error records over.
select exists (select from error_record where login = $1 and kind = $2 and date = $3)
