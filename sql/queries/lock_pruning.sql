-- Say whether nobody else prunes now; then nobody does until the end of the transaction.
select pg_try_advisory_xact_lock(7235419866103)
