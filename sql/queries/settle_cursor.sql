-- Write down what a cursor remembers after an upload. $4 is a delay in seconds, none means at once; $11 sets it back.
update cursor
set attempts = $3,
    not_before = case when $4::float8 is null then '-infinity' else now() + make_interval(secs => $4) end,
    sent_to = greatest(sent_to, $5), rows_max = $6, bytes_max = $7, suspect_to = $8,
    refused_lines = $9, refused_from = $10, position = coalesce($11, position), unanswered = $12, rounds = $13,
    wait_reason = ''
where account = $1 and operation = $2
