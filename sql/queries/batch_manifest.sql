-- Tell the manifest of a batch with what its cursor remembers, how many uploads it had, and for how long it has waited since the last one.
select b.account, b.id, b.login, b.operation, b.layout, b.header, b.cut_from, b.cut_to, b.rows, b.bytes, b.sha256, b.state,
       c.attempts, c.unanswered, c.rounds, c.sent_to, c.rows_max, c.bytes_max, c.suspect_to, c.refused_lines, c.refused_from,
       (select count(*) from upload u where u.account = b.account and u.batch_id = b.id) as uploads,
       (
           select extract(epoch from now() - max(u.ended_at)) from upload u where u.account = b.account and u.batch_id = b.id
       )::float8 as waited_s
from batch b
join cursor c on c.account = b.account and c.operation = b.operation
where b.account = $1 and b.id = $2
