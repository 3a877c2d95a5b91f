-- Give a lane the call of an upload back that never reached the vendor, where it was counted for the same day.
update lane l set calls = l.calls - 1
from upload u
where l.login = $1 and u.account = $2 and u.batch_id = $3 and u.number = $4
  and l.calls > 0 and l.calls_day = (u.started_at at time zone 'Asia/Tokyo')::date
