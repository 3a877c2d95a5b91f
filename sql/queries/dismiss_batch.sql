-- Dismiss a batch's dead letters: they stay in the log and count no more.
with marked as (
    update batch set dismissed_at = now()
    where account = $1 and id = $2 and state in ('failed', 'unconfirmed') and retried_at is null and dismissed_at is null
    returning account, operation, refused, rows
), forgotten as (
    -- who acts on a line that was refused alone ends the row: it is not taken back any more
    update cursor c set refused_lines = 0, refused_from = null
    from marked m
    where m.refused and c.account = m.account and c.operation = m.operation
), marked_lines as (
    update rejection set dismissed_at = now()
    where account = $1 and batch_id = $2 and retried_at is null and dismissed_at is null
    returning 1
)
select coalesce((select sum(rows) from marked), (select count(*) from marked_lines))::bigint as dismissed
