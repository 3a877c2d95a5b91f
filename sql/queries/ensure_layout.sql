-- Find or make the layout of an account's operation; the fingerprint leaves the headers out.
insert into layout (account, operation, columns, fingerprint) values ($1, $2, $3, $4)
on conflict (account, operation, fingerprint) do update set fingerprint = excluded.fingerprint
returning id
