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
       post.hidden_at, author.removed_at as author_removed_at,
       author.banned_at as author_banned_at,
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
