-- Note that an error record is no longer at the vendor.
update error_record set deleted_at = now() where login = $1 and kind = $2 and date = $3 and deleted_at is null
