-- Dismiss a batch's dead letters: they stay in the log and count no more.
with marked as (
    update batch set dismissed_at = now()
    where account = $1 and id = $2 and state in ('failed', 'unconfirmed') and retried_at is null and dismissed_at is null
    returning rows
), marked_lines as (
    update rejection set dismissed_at = now()
    where account = $1 and batch_id = $2 and retried_at is null and dismissed_at is null
    returning 1
)
select coalesce((select sum(rows) from marked), (select count(*) from marked_lines))::bigint as dismissed
