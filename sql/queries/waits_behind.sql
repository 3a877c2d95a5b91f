-- Say whether an operation of an account has events behind a position.
select exists (select from event where account = $1 and operation = $2 and id > $3)
