-- Tell how large the log is, how many events Postgres estimates in it, and how old the first event of any account is.
select pg_total_relation_size('event'::regclass) as bytes,
       -- the one counts since Postgres's last crash, the other is as of the last vacuum or analyze, and -1 before the first
       greatest(c.reltuples, coalesce(s.n_live_tup, 0))::float8 as events,
       coalesce((
           select extract(epoch from now() - min(first.received_at))
           from (select distinct account from cursor) a
           cross join lateral (select e.received_at from event e where e.account = a.account order by e.id limit 1) first
       ), 0)::float8 as oldest_s
from pg_class c
left join pg_stat_user_tables s on s.relid = c.oid
where c.oid = 'event'::regclass
