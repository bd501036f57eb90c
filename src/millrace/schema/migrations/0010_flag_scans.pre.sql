-- Where code names flags: the newest scan of each repository, as `millrace flags references` sent
-- it. scanned_at is said by whoever searched, sent_at is ours. places: for each flag that was looked
-- for, how many places name it; read as a whole, and small. The trail is in flag_change, under
-- `$scan:<repository>`.
create table flag_scan (
    repository      text        primary key check (repository <> ''),
    scanned_at      timestamptz not null,
    sent_at         timestamptz not null,
    actor           text        not null check (actor <> ''),
    files           bigint      not null check (files >= 0),
    places          jsonb       not null
);
