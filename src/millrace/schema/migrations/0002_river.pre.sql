-- The river carries what the feed derives too: vectors reach the indexes through the log, and
-- percentiles reach whoever keeps them.
alter publication millrace add table post_embedding, member_embedding, percentile_scale;

-- The percentiles that a post's prompt was made with, in the order of its markers: an embedding is
-- made again when one of them has moved far.
alter table post_embedding add column percentiles smallint[] not null default '{}';
