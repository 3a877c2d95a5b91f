-- Make a login's lane if it does not exist yet.
insert into lane (login) values ($1) on conflict do nothing
