-- Remember the fingerprint of the deployment's secret, or tell the one that is remembered.
insert into deployment (key_fingerprint) values ($1)
on conflict (only_one) do update set only_one = true
returning key_fingerprint
