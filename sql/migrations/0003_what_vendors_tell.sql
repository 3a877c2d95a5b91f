-- What vendors tell besides uploads, and what keeps their logins and quotas from being spent.

alter table lane
    -- settings that the vendor refused although others work: replicas that still have them stay out for a while
    add column refused_fingerprints text[] not null default '{}',
    add column refused_at timestamptz,
    -- when the vendor refused the login: the last hour's
    add column refused_logins timestamptz[] not null default '{}',
    -- when the accounts' columns were last compared with the vendor's, for which settings, and when they are again
    add column checked_at timestamptz,
    add column checked_fingerprint text,
    add column check_due_at timestamptz,
    drop constraint lane_pause_reason_is_known,
    add constraint lane_pause_reason_is_known check (pause_reason in ('operator', 'unauthorized', 'misconfigured', 'columns', 'data'));
alter table lane
    -- when the last call was made, and after how many the vendor took no more, on which day
    add column called_at timestamptz,
    add column met_calls bigint,
    add column met_day date;
comment on column lane.pause_reason is 'columns: the vendor does not know a header, found before a file was sent; data: it did not understand a file of data. Opt-outs go on in both.';

alter table cursor add column wait_reason text not null default '';
comment on column cursor.wait_reason is 'Why its next try is later, where it is not for a failed attempt: quota; record, while one of the vendor''s is too young.';

alter table cursor
    add column unanswered integer not null default 0,
    add column rounds integer not null default 0,
    add constraint cursor_unanswered_counts_up check (unanswered >= 0 and rounds >= 0);
comment on column cursor.unanswered is 'Uploads in a row of the file at hand that ended without a proper answer.';
comment on column cursor.rounds is 'How often since the vendor''s last word rejections of unanswered lines were taken back.';
-- Lines rejected alone that nobody has acted on: those that the vendor never answered are appended again, and count as unsettled.
create index batch_refused on batch (account, operation) where state = 'failed' and refused and dismissed_at is null and retried_at is null;

alter table upload add column whole boolean;
comment on column upload.whole is 'Whether all of the file was sent; null where nobody knows, as of an upload that was taken over.';

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
-- What a login uploaded around an upload.
create index upload_started on upload (started_at);

-- Files of opt-outs that went up, in vain or without an answer, and were cut anew: what they held is looked up for its proof. They are few.
create index batch_opt_outs_replaced on batch (account, operation, cut_to) where state = 'replaced' and operation in ('delete', 'stop', 'ban');
