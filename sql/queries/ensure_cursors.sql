-- Make the cursors of an account's operations that do not exist yet.
insert into cursor (account, operation) select $1, o from unnest($2::text[]) as o on conflict do nothing
