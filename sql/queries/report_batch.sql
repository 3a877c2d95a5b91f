-- Record the counts of the vendor's report mail for a batch that was accepted; none if it was not.
update batch set reported_success = $3, reported_failure = $4
where account = $1 and id = $2 and state = 'accepted'
returning true
