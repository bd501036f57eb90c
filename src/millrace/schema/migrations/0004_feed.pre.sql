-- A post's prompt also names its author and its community: their versions say when it must be
-- looked at again.
alter table post_embedding add column author_version bigint not null default 0;
alter table post_embedding add column community_version bigint not null default 0;

-- A member's vector made from an older place of the log than this is to be made again: so that
-- what was heard in bulk is remembered without memory.
alter table member_embedding add column stale_at pg_lsn;

-- Who liked a post: when it changes or goes, so do their histories.
create index engagement_for on engagement
    (post_community_id, post_id) where kind in ('click', 'long_dwell', 'like', 'comment', 'share');
