-- Remember the hash of a batch's file.
update batch set sha256 = $3 where account = $1 and id = $2
