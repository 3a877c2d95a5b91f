-- Settle a batch after an upload; an open state has no end.
update batch
set state = $3, reason = $4, rejected = $5, refused = $6,
    ended_at = case when $3 in ('ready', 'uploading', 'waiting') then null else now() end
where account = $1 and id = $2 and state = 'uploading'
returning true
