-- The log, its cursors and batches, what became of them, and the lanes. Postgres 15 or newer.
-- `account` leads every key of the log, so that the data can be distributed by account.

create table deployment (
    only_one boolean primary key default true,
    key_fingerprint text not null,
    created_at timestamptz not null default now(),
    constraint deployment_is_one_row check (only_one)
);
comment on table deployment is 'One row: the fingerprint of the secret that customers are hashed with. Another secret is refused at start.';

create table layout (
    account text not null,
    id bigint generated always as identity,
    operation text not null,
    columns jsonb not null,
    fingerprint text not null,
    created_at timestamptz not null default now(),
    primary key (account, id),
    constraint layout_is_unique unique (account, operation, fingerprint)
);
comment on table layout is 'Expression and type of each column of a rendered line, in order. Immutable.';

create table event (
    account text not null,
    id bigint generated always as identity (cache 1),
    source text not null,
    message_id text not null,
    digest bytea not null,
    operation text not null,
    customer bytea not null,
    layout bigint not null,
    line bytea not null,
    occurred_at timestamptz not null,
    received_at timestamptz not null,
    again_of bigint,
    primary key (account, id),
    constraint event_webhook_is_unique unique (source, message_id, account),
    constraint event_operation_is_known check (operation in ('upsert', 'delete', 'stop', 'ban', 'allow')),
    constraint event_line_is_one_record check (octet_length(line) > 2 and substring(line from octet_length(line) - 1) = '\x0d0a'::bytea),
    constraint event_again_has_an_original check ((source = 'relay') = (again_of is not null))
);
comment on table event is 'The log: append-only, never updated. `line` is the finished CP932 record with its CRLF.';

-- What waits beyond a cursor, without walking over the other operations' events.
create index event_waiting on event (account, operation, id);
-- Which of a customer's events is the later.
create index event_customer on event (account, customer, occurred_at);
create index event_customer_permission on event (account, customer, occurred_at) where operation <> 'upsert';
-- What relay appended again: due at once, and how an original finds its copies.
create index event_again_waiting on event (account, operation, id) where again_of is not null;
create index event_again on event (account, again_of, id) where again_of is not null;

-- Ids are drawn before commits become visible. Every append holds this lock, shared, from before its ids are drawn until
-- after its commit; who takes it exclusively for an instant knows that every id drawn so far is visible or will never be.
create function event_append_lock() returns trigger language plpgsql as $$
begin
    perform pg_advisory_xact_lock_shared(7235419866102);
    return null;
end
$$;
create trigger event_append_lock before insert on event for each statement execute function event_append_lock();

create function event_is_immutable() returns trigger language plpgsql as $$
begin
    raise exception 'the log is append-only' using errcode = 'integrity_constraint_violation';
end
$$;
create trigger event_is_immutable before update on event for each statement execute function event_is_immutable();

create table cursor (
    account text not null,
    operation text not null,
    position bigint not null default 0,
    attempts integer not null default 0,
    not_before timestamptz not null default '-infinity',
    sent_to bigint not null default 0,
    rows_max bigint,
    bytes_max bigint,
    suspect_to bigint,
    refused_lines integer not null default 0,
    refused_from bigint,
    primary key (account, operation),
    constraint cursor_attempts_count_up check (attempts >= 0 and refused_lines >= 0),
    constraint cursor_limits_leave_a_line check (rows_max >= 1 and bytes_max >= 1)
);
comment on table cursor is 'How far an operation of an account has been cut, with what must survive a batch.';
comment on column cursor.sent_to is 'The highest event id that may have reached the vendor without an answer.';
comment on column cursor.suspect_to is 'A refused file reached to this id: up to it files only get smaller.';
comment on column cursor.refused_from is 'Where the first of the single lines that were refused in a row was cut.';

create sequence batch_id_seq as bigint cache 1;

create table batch (
    account text not null,
    id bigint not null,
    login text not null,
    operation text not null,
    layout bigint not null,
    header text[] not null,
    cut_from bigint not null,
    cut_to bigint not null,
    rows bigint not null,
    bytes bigint not null,
    sha256 text,
    state text not null default 'ready',
    reason text not null default '',
    refused boolean not null default false,
    oldest_received_at timestamptz not null,
    created_at timestamptz not null default now(),
    ended_at timestamptz,
    rejected bigint not null default 0,
    reported_success bigint,
    reported_failure bigint,
    dismissed_at timestamptz,
    retried_at timestamptz,
    primary key (account, id),
    constraint batch_id_is_unique unique (id),
    constraint batch_state_is_known check (state in
        ('ready', 'uploading', 'waiting', 'delivered', 'accepted', 'unconfirmed', 'failed', 'replaced')),
    constraint batch_ends_once check ((state in ('ready', 'uploading', 'waiting')) = (ended_at is null)),
    constraint batch_range_is_forward check (cut_from < cut_to),
    constraint batch_is_not_empty check (rows > 0 and bytes > 0)
);
comment on table batch is 'The manifest of a file: the account''s events of the operation with cut_from < id <= cut_to, less the superseded.';

-- One open batch for each cursor, one upload for each login.
create unique index batch_open on batch (account, operation) where state in ('ready', 'uploading', 'waiting');
create unique index batch_uploading on batch (login) where state = 'uploading';
create index batch_of_event on batch (account, operation, cut_to) where state <> 'replaced';
create index batch_dead on batch (account, operation) where state in ('failed', 'unconfirmed') and not refused and dismissed_at is null and retried_at is null;

create table superseded (
    account text not null,
    event_id bigint not null,
    by_event_id bigint not null,
    batch_id bigint not null,
    primary key (account, event_id),
    constraint superseded_by_another check (event_id <> by_event_id)
);
comment on table superseded is 'Events that a later word replaced, found at a cut; true for ever after.';

create table upload (
    account text not null,
    batch_id bigint not null,
    number integer not null,
    started_at timestamptz not null default now(),
    ended_at timestamptz,
    http_status integer,
    outcome text,
    reason text not null default '',
    bytes_sent bigint not null default 0,
    reply_excerpt text not null default '',
    primary key (account, batch_id, number),
    foreign key (account, batch_id) references batch (account, id),
    constraint upload_ends_with_an_outcome check ((ended_at is null) = (outcome is null)),
    constraint upload_outcome_is_known check (outcome in
        ('delivered', 'accepted', 'busy', 'quota', 'transient', 'unknown', 'unauthorized', 'misconfigured', 'too_large', 'refused'))
);

create table rejection (
    account text not null,
    batch_id bigint not null,
    line bigint not null,
    event_id bigint not null,
    message text not null,
    unconfirmed boolean not null default false,
    created_at timestamptz not null default now(),
    dismissed_at timestamptz,
    retried_at timestamptz,
    primary key (account, batch_id, line),
    foreign key (account, batch_id) references batch (account, id),
    constraint rejection_is_below_the_header check (line >= 2)
);
comment on table rejection is 'Exceptions only: a line without one shares its batch''s fate.';
create index rejection_of_event on rejection (account, event_id);

create table lane (
    login text primary key,
    lease uuid,
    leased_until timestamptz not null default '-infinity',
    generation bigint not null default 0,
    not_before timestamptz not null default '-infinity',
    wait_reason text not null default '',
    paused_at timestamptz,
    pause_reason text,
    pause_detail text not null default '',
    paused_fingerprint text,
    flush_to bigint not null default 0,
    calls bigint not null default 0,
    calls_day date,
    constraint lane_pause_has_a_reason check ((paused_at is null) = (pause_reason is null)),
    constraint lane_pause_reason_is_known check (pause_reason in ('operator', 'unauthorized', 'misconfigured'))
);
comment on table lane is 'One row for each login: its lease, pauses, waits and the day''s calls.';
