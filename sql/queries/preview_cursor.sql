-- Tell what an operation's cursor remembers, how long its oldest event or batch has waited as the survey counts it, and what waits fills.
-- $3 and $4 are the rows and bytes of a file; only with $5 is that looked at. Without such a cursor there is no row.
select c.position, c.attempts, c.unanswered, c.rounds, c.sent_to, c.rows_max, c.bytes_max, c.suspect_to, c.refused_lines, c.refused_from,
       coalesce(extract(epoch from now() - greatest(
           coalesce(b.oldest_received_at, first.received_at), case when c.wait_reason <> 'quota' then c.not_before end
       )), 0)::float8 as age_s,
       $5::boolean and (coalesce(first.received_at > now() + interval '1 minute', false) or coalesce((
           select count(*) >= least($3, c.rows_max) or sum(octet_length(line)) >= least($4, c.bytes_max)
           from (
               select line from event
               where account = c.account and operation = c.operation and id > c.position
               order by id
               limit least($3::bigint, c.rows_max, 200000)
           ) waiting
       ), false)) as fills
from cursor c
left join batch b on b.account = c.account and b.operation = c.operation and b.state in ('ready', 'uploading', 'waiting')
left join lateral (
    select received_at from event
    where account = c.account and operation = c.operation and id > c.position
    order by id
    limit 1
) first on true
where c.account = $1 and c.operation = $2
