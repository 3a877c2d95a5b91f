-- Tell what operators did, the newest first: with an id below $6, of a login ($1), account ($2), batch ($3), operator ($4) and act ($5)
-- if these are given.
select id, at, who, through, act, login, account, batch_id, source, message_id, events, detail
from act
where ($1::text is null or login = $1)
  and ($2::text is null or account = $2)
  and ($3::bigint is null or batch_id = $3)
  and ($4::text is null or who = $4)
  and ($5::text is null or act = $5)
  and id < $6::bigint
order by id desc
limit $7
