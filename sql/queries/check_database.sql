-- Tell what relay's promises rest on: the version, durability, and that ids are drawn one by one.
select current_setting('server_version_num')::int as version,
       current_setting('synchronous_commit') as synchronous_commit,
       (select seqcache from pg_sequence where seqrelid = 'event_id_seq'::regclass) as cache
