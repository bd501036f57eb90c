-- name: catalogue_communities
-- The names of all communities: a sentence names them.
select community_id, name from community

-- name: catalogue_authors
-- Every member who may have written something, with the numbers of an author; a stretch of keys.
select member.community_id, member.member_id,
       coalesce(nullif(member.display_name, ''), member.handle) as name,
       member.removed_at is null and member.banned_at is null as stands,
       coalesce(counter.followers, 0) as followers, coalesce(counter.posts, 0) as posts,
       coalesce(counter.views, 0) as views, coalesce(counter.likes, 0) as likes
  from member
  left join member_counter counter using (community_id, member_id)
 where (member.community_id, member.member_id) > (%(community_id)s, %(after)s)
 order by member.community_id, member.member_id
 limit %(limit)s

-- name: catalogue_posts
-- Every standing post with its numbers and its vector of one model, a stretch of keys; a hidden one
-- too, because it can come back.
select post.community_id, post.post_id, post.author_id, post.kind, post.topics, post.language,
       post.audience, post.created_at, post.hidden_at is not null as hidden,
       counter.views, counter.clicks, counter.long_dwells, counter.likes, counter.comments,
       counter.shares, counter.hides, counter.reports, embedding.vector
  from post
  join post_counter counter using (community_id, post_id)
  left join post_embedding embedding
    on embedding.community_id = post.community_id and embedding.post_id = post.post_id
   and embedding.model_version = %(model_version)s
 where (post.community_id, post.post_id) > (%(community_id)s, %(after)s)
   and post.removed_at is null
 order by post.community_id, post.post_id
 limit %(limit)s
