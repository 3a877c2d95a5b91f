-- Find the latest uploads with refused lines of accounts ($2) at a login ($1) whose error records relay has not taken over yet.
select u.account, u.batch_id, u.number, b.operation, b.header,
       extract(epoch from now() - u.started_at)::float8 as started_ago_s,
       extract(epoch from now() - u.ended_at)::float8 as ended_ago_s
from upload u
join batch b on b.account = u.account and b.id = u.batch_id
where u.started_at > now() - make_interval(secs => $3::float8)
  and b.login = $1 and u.account = any($2::text[])
  and u.outcome = 'delivered' and u.bytes_sent > 0
  and exists (select from rejection r where r.account = u.account and r.batch_id = u.batch_id)
  and not exists (
      select from error_record e where e.account = u.account and e.batch_id = u.batch_id and e.number = u.number
  )
order by u.started_at desc
limit $4
