-- Tell batches, the newest first: those with an id below $4, of an account ($1), state ($2) and operation ($3) if these are given.
select account, id, login, operation, header, cut_from, cut_to, rows, bytes, sha256, state, reason, refused, rejected,
       reported_success, reported_failure, oldest_received_at, created_at, ended_at, dismissed_at, retried_at
from batch
where ($1::text is null or account = $1)
  and ($2::text is null or state = $2)
  and ($3::text is null or operation = $3)
  and id < $4::bigint
order by id desc
limit $5
