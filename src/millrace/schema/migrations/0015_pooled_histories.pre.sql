-- How an encoder pools what a member liked; null: the member's prompt shows it in words, as that of
-- every encoder up to now.
alter table encoder_version add column history jsonb;

-- The mean vector of posts and of the profiles of members, of each encoder that pools histories:
-- fp16, little endian, as vectors are. Made from a sample by whoever embeds, and followed by whoever
-- serves, so that all take the same away. posts_counted, profiles_counted: how many there were then.
create table encoder_averages (
    model_version       text        primary key check (model_version <> ''),
    posts               bytea       not null,
    profiles            bytea       not null,
    posts_counted       bigint      not null check (posts_counted >= 0),
    profiles_counted    bigint      not null check (profiles_counted >= 0),
    made_at             timestamptz not null
);

alter publication millrace add table encoder_averages;
