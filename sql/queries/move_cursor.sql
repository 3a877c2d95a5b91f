-- Move a cursor to where it has been cut.
update cursor set position = $3 where account = $1 and operation = $2
