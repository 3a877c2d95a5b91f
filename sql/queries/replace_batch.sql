-- Un-cut: replace a batch that is not being uploaded and set its cursor back.
with replaced as (
    update batch set state = 'replaced', reason = $3, ended_at = now()
    where account = $1 and id = $2 and state in ('ready', 'waiting')
    returning account, operation, cut_from
)
update cursor c set position = r.cut_from
from replaced r
where c.account = r.account and c.operation = r.operation
returning true
