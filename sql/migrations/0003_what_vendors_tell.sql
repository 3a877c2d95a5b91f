-- What vendors tell besides uploads, and what keeps their logins and quotas from being spent.

alter table lane
    -- settings that the vendor refused although others work: replicas that still have them stay out for a while
    add column refused_fingerprint text,
    add column refused_at timestamptz,
    -- refused logins, counted from the first one within an hour
    add column logins_refused integer not null default 0,
    add column logins_refused_since timestamptz,
    -- when the accounts' columns were last compared with the vendor's, and for which settings
    add column checked_at timestamptz,
    add column checked_fingerprint text,
    drop constraint lane_pause_reason_is_known,
    add constraint lane_pause_reason_is_known check (pause_reason in ('operator', 'unauthorized', 'misconfigured', 'columns')),
    add constraint lane_refused_logins_count_up check (logins_refused >= 0);
comment on column lane.pause_reason is 'columns: the vendor does not know a header, found before a file was sent; opt-outs go on.';

alter table cursor add column wait_reason text not null default '';
comment on column cursor.wait_reason is 'Why its next try is later, where it is not for a failed attempt: quota.';

create table account_check (
    account text primary key,
    login text not null,
    fingerprint text not null,
    checked_at timestamptz not null default now(),
    result jsonb not null
);
comment on table account_check is 'What the last look at the vendor found for each account: columns known, missing, encoding.';

create table error_record (
    login text not null,
    kind text not null,
    date text not null,
    count bigint not null,
    account text not null,
    batch_id bigint not null,
    number integer not null,
    taken_at timestamptz not null default now(),
    deleted_at timestamptz,
    primary key (login, kind, date),
    foreign key (account, batch_id, number) references upload (account, batch_id, number),
    constraint error_record_has_lines check (count > 0)
);
comment on table error_record is 'The vendor''s records of refused lines that were matched to an upload beyond doubt. date is the vendor''s own text.';
create index error_record_to_delete on error_record (login) where deleted_at is null;
