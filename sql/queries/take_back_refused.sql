-- Take back the single lines that were refused in a row from $3 on: their batches are replaced, their rejections go.
with taken as (
    update batch set state = 'replaced', ended_at = now()
    where account = $1 and operation = $2 and state = 'failed' and refused and cut_from >= $3
    returning account, id
)
delete from rejection r using taken t where r.account = t.account and r.batch_id = t.id
