-- Read the fingerprint of the secret that the database was begun with; none before the first relay.
select key_fingerprint from deployment
