-- Write down what an upload came to.
update upload
set ended_at = now(), http_status = $4, outcome = $5, reason = $6, bytes_sent = $7, reply_excerpt = $8, whole = $9
where account = $1 and batch_id = $2 and number = $3 and ended_at is null
