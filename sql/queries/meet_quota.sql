-- Remember after how many calls of ours the vendor took no more: somebody else may use the login, too.
-- Not in the first hour of the day, when its clock may still be in the day before.
update lane set met_calls = greatest(calls - 1, 0), met_day = calls_day
where login = $1 and calls_day = (now() at time zone 'Asia/Tokyo')::date and (now() at time zone 'Asia/Tokyo')::time >= '01:00'
