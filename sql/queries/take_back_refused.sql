-- Take back the single lines that were refused in a row from $3 on: their batches are replaced, their rejections go.
-- Return where the cursor is set back to: behind what was retried or dismissed meanwhile, which stays as it is.
with held as (
    select account, id, cut_to, coalesce(retried_at, dismissed_at) is not null as acted_on
    from batch
    where account = $1 and operation = $2 and state = 'failed' and refused and cut_from >= $3
    order by id
    for update
), back as (
    select greatest($3::bigint, max(cut_to) filter (where acted_on)) as position from held
), taken as (
    update batch b set state = 'replaced', ended_at = now()
    from held h, back
    where b.account = h.account and b.id = h.id and h.cut_to > back.position
    returning b.account, b.id
), gone as (
    delete from rejection r using taken t where r.account = t.account and r.batch_id = t.id
)
select position from back
