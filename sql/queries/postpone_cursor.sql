-- Put off the next try of an operation of an account for $3 seconds, because of a record that is too young;
-- nothing else that it remembers changes.
update cursor set not_before = now() + make_interval(secs => $3::float8), wait_reason = 'record' where account = $1 and operation = $2
