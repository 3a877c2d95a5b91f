-- Count a call against the day's quota (in Japan's time); none if the day's calls are spent.
update lane
set calls = case when calls_day = (now() at time zone 'Asia/Tokyo')::date then calls + 1 else 1 end,
    calls_day = (now() at time zone 'Asia/Tokyo')::date,
    called_at = now()
where login = $1
  and ($2::bigint is null or calls < $2 or calls_day is distinct from (now() at time zone 'Asia/Tokyo')::date)
returning calls
