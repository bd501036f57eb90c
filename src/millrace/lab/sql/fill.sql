-- name: copy_communities
-- Brings in communities.
copy community (community_id, external_id, name, created_at) from stdin

-- name: copy_members
-- Brings in members; the version trigger runs as for any write.
copy member (community_id, member_id, external_id, handle, display_name, headline, skills,
             joined_at) from stdin

-- name: copy_member_counters
-- Brings in the numbers of members as authors.
copy member_counter (community_id, member_id, followers, posts, views, likes) from stdin

-- name: copy_posts
-- Brings in posts.
copy post (community_id, post_id, external_id, author_id, kind, title, text, topics, audience,
           created_at) from stdin

-- name: copy_post_counters
-- Brings in the numbers of posts.
copy post_counter (community_id, post_id, views, clicks, long_dwells, likes, comments, shares)
  from stdin

-- name: copy_post_embeddings
-- Brings in vectors of posts, with the percentiles that their prompts would have said.
copy post_embedding (community_id, post_id, model_version, prompt_version, prompt_hash,
                     source_version, position, vector, made_at, percentiles, author_version,
                     community_version) from stdin

-- name: copy_member_embeddings
-- Brings in vectors of members.
copy member_embedding (community_id, member_id, model_version, prompt_version, prompt_hash,
                       source_version, position, vector, made_at) from stdin

-- name: copy_follows
-- Brings in follows.
copy follow (community_id, member_id, target_community_id, target_id, created_at) from stdin

-- name: fill_position
-- Where the log stands: the vectors are from here.
select pg_current_wal_insert_lsn()::text

-- name: fill_impressions
-- Shows every reading member so many posts over the last weeks, chosen by a hash; made by the
-- server itself, because there are millions.
insert into impression (community_id, member_id, shown_at, post_community_id, post_id, position)
select member.community_id, member.member_id,
       %(now)s::timestamptz - shown.number * %(every)s::interval, post.community_id, post.post_id,
       shown.number %% 20
  from member
 cross join generate_series(1, %(each)s) as shown (number)
  join lab_post as post
    on post.number = abs(hashtextextended(member.member_id::text || '/' || shown.number, %(seed)s))
                     %% %(posts)s
 where member.member_id = any(%(members)s::bigint[])
    on conflict do nothing

-- name: number_posts
-- Numbers the posts, so that a hash chooses one.
create unlogged table lab_post as
select community_id, post_id, row_number() over (order by post_id) - 1 as number from post

-- name: index_posts
-- A post is found by its number.
create unique index on lab_post (number)

-- name: drop_numbers
-- The numbers were only for filling.
drop table lab_post

-- name: fill_engagements
-- Every fourth post that was shown was engaged with.
insert into engagement (community_id, member_id, happened_at, post_community_id, post_id, kind)
select community_id, member_id, shown_at + interval '5 seconds', post_community_id, post_id,
       (array['click', 'long_dwell', 'like', 'click', 'comment'])[1 + mod(position / 4, 5)]
  from impression
 where mod(position, 4) = 0

-- name: fill_reactions
-- A like stands as a reaction.
insert into reaction (community_id, member_id, post_community_id, post_id, kind, created_at)
select distinct on (community_id, member_id, post_community_id, post_id)
       community_id, member_id, post_community_id, post_id, 'like', happened_at
  from engagement
 where kind = 'like'
 order by community_id, member_id, post_community_id, post_id, happened_at

-- name: analyse
-- Fresh tables have no statistics yet, and a planner without them plans badly.
analyze

-- name: served_between
-- The served feeds of a stretch of time, for the times of their stages.
select record
  from served_feed
 where served_at >= %(since)s and served_at < %(until)s
 order by served_at
 limit %(limit)s
