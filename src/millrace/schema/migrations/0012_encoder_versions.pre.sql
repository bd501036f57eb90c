-- The encoders of this installation. version: the name that their vectors are stored under; name:
-- what people call it. directory: where the model is; empty for the packaged one. chosen: whether a
-- person made it serve, and not the settings. served_at: when it began to serve for the last time,
-- so that a rollback knows what served before. fault: why it could not be used, in words.
create table encoder_version (
    version         text        primary key check (version <> ''),
    name            text        not null unique check (name <> ''),
    directory       text        not null,
    dims            integer     not null check (dims > 0),
    state           text        not null check (state in
                    ('candidate', 'embedding', 'ready', 'serving', 'retired')),
    chosen          boolean     not null default false,
    metrics         jsonb       not null default '{}',
    fault           text        not null default '',
    added_by        text        not null check (added_by <> ''),
    added_at        timestamptz not null,
    changed_by      text        not null check (changed_by <> ''),
    changed_at      timestamptz not null,
    served_at       timestamptz
);
-- One serves, whatever is killed in the middle of a change.
create unique index encoder_version_serving on encoder_version (state) where state = 'serving';

alter publication millrace add table encoder_version;
