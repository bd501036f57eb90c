-- name: member_state
-- The member of a feed with the embedding of one model, in one round trip.
select member.display_name, member.headline, member.about, member.skills, member.place,
       member.languages, member.system_version, community.name as community_name,
       community.language as community_language, embedding.vector, embedding.source_version,
       embedding.prompt_hash,
       embedding.position::text as position
  from member
  join community using (community_id)
  left join member_embedding embedding
    on embedding.community_id = member.community_id and embedding.member_id = member.member_id
   and embedding.model_version = %(model_version)s
 where member.community_id = %(community_id)s and member.member_id = %(member_id)s
   and member.removed_at is null

-- name: network_posts
-- Newest standing posts of the own community and of followed authors, as far as the member may see
-- them: each arm reads a stretch of a key range. Posts and authors to leave out come as arrays.
with without as materialized (
    select *
      from unnest(%(without_communities)s::bigint[], %(without_posts)s::bigint[])
           as line (community_id, post_id)
), home as (
    select post.community_id, post.post_id, false as followed
      from post_seen_by(%(viewer_role)s, %(viewer_community)s::bigint, %(viewer_member)s::bigint)
           as post
     where post.community_id = %(viewer_community)s::bigint
       and post.author_id <> %(viewer_member)s::bigint
       and post.created_at >= %(oldest)s
       and (cardinality(%(languages)s::text[]) = 0 or post.language = ''
            or split_part(post.language, '-', 1) = any(%(languages)s::text[]))
       and not (post.author_id = any(%(muted)s::bigint[]))
       and not exists (select from without
                        where without.community_id = post.community_id
                          and without.post_id = post.post_id)
     order by post.post_id desc
     limit %(limit)s
), followed as (
    select newest.community_id, newest.post_id, true as followed
      from unnest(%(follow_communities)s::bigint[], %(follows)s::bigint[])
           as author (community_id, member_id)
     cross join lateral (
           select post.community_id, post.post_id
             from post_seen_by(%(viewer_role)s, %(viewer_community)s::bigint,
                               %(viewer_member)s::bigint) as post
            where post.community_id = author.community_id and post.author_id = author.member_id
              and post.created_at >= %(oldest)s
              and (cardinality(%(languages)s::text[]) = 0 or post.language = ''
                   or split_part(post.language, '-', 1) = any(%(languages)s::text[]))
              and not exists (select from without
                               where without.community_id = post.community_id
                                 and without.post_id = post.post_id)
            order by post.post_id desc
            limit %(each)s) as newest
)
select community_id, post_id, bool_or(followed) as followed
  from (select * from home union all select * from followed) as proposed
 group by community_id, post_id
 order by followed desc, post_id desc
 limit %(limit)s

-- name: new_author_posts
-- Recent posts of the own community by authors whom few know, that few have seen. Looks at a
-- bounded stretch of the newest posts.
with recent as (
    select post.community_id, post.post_id, post.author_id
      from post_seen_by(%(viewer_role)s, %(viewer_community)s::bigint, %(viewer_member)s::bigint)
           as post
     where post.community_id = %(viewer_community)s::bigint
       and post.author_id <> %(viewer_member)s::bigint
       and post.created_at >= %(oldest)s
       and (cardinality(%(languages)s::text[]) = 0 or post.language = ''
            or split_part(post.language, '-', 1) = any(%(languages)s::text[]))
       and not (post.author_id = any(%(muted)s::bigint[]))
     order by post.post_id desc
     limit 500
)
select recent.community_id, recent.post_id, false as followed
  from recent
  join post_counter using (community_id, post_id)
  join member_counter
    on member_counter.community_id = recent.community_id
   and member_counter.member_id = recent.author_id
 where post_counter.views <= %(views_max)s
   and member_counter.followers <= %(followers_max)s
   and member_counter.posts <= %(posts_max)s
   and not exists (
       select from unnest(%(without_communities)s::bigint[], %(without_posts)s::bigint[])
                   as without (community_id, post_id)
        where without.community_id = recent.community_id and without.post_id = recent.post_id)
 order by recent.post_id desc
 limit %(limit)s

-- name: author_numbers
-- The numbers of the authors of these posts.
select distinct post.community_id, post.author_id, counter.followers, counter.posts,
       counter.views, counter.likes
  from unnest(%(communities)s::bigint[], %(posts)s::bigint[]) as asked (community_id, post_id)
  join post using (community_id, post_id)
  join member_counter counter
    on counter.community_id = post.community_id and counter.member_id = post.author_id

-- name: post_visibility
-- What keeps a post from being shown to anybody: for an operator who asks why.
select post.community_id, post.post_id, post.author_id, post.audience, post.removed_at,
       author.removed_at as author_removed_at,
       exists (
           select from block
            where block.community_id = %(viewer_community)s::bigint
              and block.member_id = %(viewer_member)s::bigint
              and block.target_community_id = post.community_id
              and block.target_id = post.author_id
           union all
           select from block
            where block.community_id = post.community_id and block.member_id = post.author_id
              and block.target_community_id = %(viewer_community)s::bigint
              and block.target_id = %(viewer_member)s::bigint) as blocked
  from post
  join member author
    on author.community_id = post.community_id and author.member_id = post.author_id
 where post.community_id = %(community_id)s and post.post_id = %(post_id)s
