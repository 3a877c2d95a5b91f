-- Tell how far an operation of an account had gone up without an answer, not counting one upload.
select coalesce(max(b.cut_to), 0)
from batch b
join upload u on u.account = b.account and u.batch_id = b.id and u.outcome = 'unknown'
where b.account = $1 and b.operation = $2 and (b.id, u.number) <> ($3, $4)
