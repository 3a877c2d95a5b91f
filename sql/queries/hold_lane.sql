-- Hold a lane that is still ours until the end of the transaction; none if it is not.
select true from lane where login = $1 and lease = $2 and generation = $3 for update
