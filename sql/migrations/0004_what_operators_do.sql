-- What operators did, how far the log has been pruned, and what is counted over time.

create table act (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    who text not null,
    through text not null,
    act text not null,
    login text,
    account text,
    batch_id bigint,
    source text,
    message_id text,
    events bigint,
    detail text not null default '',
    constraint act_came_through_a_known_door check (through in ('api', 'command')),
    constraint act_is_known check (act in
        ('flush', 'pause', 'resume', 'retry', 'dismiss', 'report', 'delete_records', 'download', 'search', 'see_rejections'))
);
comment on table act is 'The audit record: who changed what, or looked at customers'' data, and when. Append-only.';
comment on column act.who is 'The name of a token for the status API, or the user who gave a command.';

-- What was done to a batch, among all that was ever done.
create index act_batch on act (batch_id, id) where batch_id is not null;

create function act_is_immutable() returns trigger language plpgsql as $$
begin
    raise exception 'the audit record is append-only' using errcode = 'integrity_constraint_violation';
end
$$;
create trigger act_is_immutable before update or delete on act for each row execute function act_is_immutable();

alter table cursor
    add column pruned_to bigint not null default 0,
    add constraint cursor_prunes_what_was_cut check (pruned_to <= position);
comment on column cursor.pruned_to is 'Up to this id retention has been here: settled events may be gone.';

create table proven_line (
    account text not null,
    event_id bigint not null,
    batch_id bigint not null,
    line bigint not null,
    primary key (account, event_id, batch_id),
    constraint proven_line_is_below_the_header check (line >= 2)
);
comment on table proven_line is 'Where opt-outs stood in files of which retention has deleted others since: it can no longer be counted.';

-- What was received when, for the chart of the last hours: events lie nearly in the order of their receipt.
create index event_received on event using brin (received_at) with (pages_per_range = 32, autosummarize = on);
-- What ended when.
create index batch_ended on batch (ended_at) where ended_at is not null;
-- Refused lines that nobody has acted on: few among all that ever were, and counted every few seconds.
create index rejection_open on rejection (account, batch_id) where dismissed_at is null and retried_at is null;
