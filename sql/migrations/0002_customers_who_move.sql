-- Customers who change their address: where each one is now, which addresses they have left, and opt-outs that wait for one.
-- Nothing here touches the log: relay before this migration goes on as it did.

create table known_address (
    account text not null,
    source text not null,
    customer_id bytea not null,
    address text,
    customer bytea,
    occurred_at timestamptz not null,
    received_at timestamptz not null,
    allowed_at timestamptz,
    deleted_at timestamptz,
    primary key (account, source, customer_id),
    constraint known_address_has_a_hash check ((address is null) = (customer is null))
);
comment on table known_address is 'The last address of each customer of a source that names them; null where it was taken away.';
comment on column known_address.customer_id is 'A keyed hash of what the source calls the customer.';
comment on column known_address.customer is 'The customer of the log: a keyed hash of the address.';
comment on column known_address.occurred_at is 'When the customer was last said to have the address.';
comment on column known_address.allowed_at is 'The last allow: earlier stops and bans hold no more, whatever the address.';
comment on column known_address.deleted_at is 'The last deletion that the source asked for: the same.';

-- Who is at an address.
create index known_address_customer on known_address (account, customer, occurred_at);

create table former_address (
    account text not null,
    customer bytea not null,
    source text not null,
    customer_id bytea not null,
    left_at timestamptz not null,
    primary key (account, customer, source, customer_id)
);
comment on table former_address is 'Who has left an address, and when: what the mailbox said before holds for them.';

-- Who left it last. Only for queries that say so: whether somebody has left is looked up by the primary key, because some
-- addresses have been left by thousands.
create index former_address_left on former_address (account, customer, left_at) where left_at > '-infinity';

create table unresolved (
    account text not null,
    source text not null,
    message_id text not null,
    id bigint generated always as identity,
    customer_source text not null,
    customer_id bytea not null,
    digest bytea not null,
    operation text not null,
    occurred_at timestamptz not null,
    received_at timestamptz not null,
    created_at timestamptz not null default now(),
    dismissed_at timestamptz,
    primary key (account, source, message_id),
    constraint unresolved_is_an_opt_out check (operation in ('delete', 'stop', 'ban'))
);
comment on table unresolved is 'Opt-outs of customers without a known address. A row goes in the transaction that makes it an event.';
comment on column unresolved.source is 'Who said it; customer_source is the source that the customer belongs to.';
create index unresolved_customer on unresolved (account, customer_source, customer_id);
create index unresolved_webhook on unresolved (source, message_id);
-- What operators are shown, and what is counted.
create index unresolved_open on unresolved (id) where dismissed_at is null;
