-- Hold a batch until the end of the transaction, so that its dead letters are retried or dismissed, not both.
select true from batch where account = $1 and id = $2 for update
