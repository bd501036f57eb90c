-- name: log_position
-- Where the log stood before the facts of an embedding were read.
select pg_current_wal_insert_lsn()::text as position

-- name: store_post_embeddings
-- Keeps vectors of posts; one made from an older version of the post never wins.
insert into post_embedding (community_id, post_id, model_version, prompt_version, prompt_hash,
                            source_version, position, vector, made_at)
select *
  from unnest(%(communities)s::bigint[], %(ids)s::bigint[], %(model_versions)s::text[],
              %(prompt_versions)s::text[], %(prompt_hashes)s::text[], %(source_versions)s::bigint[],
              %(positions)s::pg_lsn[], %(vectors)s::bytea[], %(made)s::timestamptz[])
    on conflict (community_id, post_id, model_version) do update
       set prompt_version = excluded.prompt_version, prompt_hash = excluded.prompt_hash,
           source_version = excluded.source_version, position = excluded.position,
           vector = excluded.vector, made_at = excluded.made_at
     where post_embedding.source_version <= excluded.source_version

-- name: store_member_embedding
-- Keeps a member's vector; one made from an older place of the log never wins.
insert into member_embedding (community_id, member_id, model_version, prompt_version, prompt_hash,
                              source_version, position, vector, made_at)
values (%(community_id)s, %(member_id)s, %(model_version)s, %(prompt_version)s, %(prompt_hash)s,
        %(source_version)s, %(position)s::pg_lsn, %(vector)s, %(made_at)s)
    on conflict (community_id, member_id, model_version) do update
       set prompt_version = excluded.prompt_version, prompt_hash = excluded.prompt_hash,
           source_version = excluded.source_version, position = excluded.position,
           vector = excluded.vector, made_at = excluded.made_at
     where member_embedding.position <= excluded.position

-- name: prompt_hashes
-- The prompts that the vectors of these posts were made from.
select community_id, post_id, prompt_hash
  from post_embedding
  join unnest(%(communities)s::bigint[], %(ids)s::bigint[]) as asked (community_id, post_id)
       using (community_id, post_id)
 where model_version = %(model_version)s

-- name: touch_embeddings
-- The prompts of these posts are as they were: only the versions move.
update post_embedding
   set source_version = greatest(post_embedding.source_version, line.source_version),
       made_at = %(made_at)s
  from unnest(%(communities)s::bigint[], %(ids)s::bigint[], %(source_versions)s::bigint[])
       as line (community_id, post_id, source_version)
 where post_embedding.community_id = line.community_id and post_embedding.post_id = line.post_id
   and model_version = %(model_version)s

-- name: posts_for_index
-- What the index must know of these posts; a removed post, or one of a removed author, is not there.
select post.community_id, post.post_id, post.author_id, post.created_at, post.language,
       post.audience, post.system_version, embedding.source_version, embedding.vector
  from unnest(%(communities)s::bigint[], %(ids)s::bigint[]) as asked (community_id, post_id)
  join post using (community_id, post_id)
  join member author
    on author.community_id = post.community_id and author.member_id = post.author_id
  left join post_embedding embedding
    on embedding.community_id = post.community_id and embedding.post_id = post.post_id
   and embedding.model_version = %(model_version)s
 where post.removed_at is null and author.removed_at is null

-- name: embedded_posts
-- All standing posts that have a vector of this model, in the order of their keys, a stretch at a
-- time: the index is made of them at the start.
select post.community_id, post.post_id, post.author_id, post.created_at, post.language,
       post.audience, post.system_version, embedding.source_version, embedding.vector
  from post_embedding embedding
  join post using (community_id, post_id)
  join member author
    on author.community_id = post.community_id and author.member_id = post.author_id
 where embedding.model_version = %(model_version)s
   and (embedding.community_id, embedding.post_id) > (%(community_id)s, %(post_id)s)
   and post.removed_at is null and author.removed_at is null
 order by embedding.community_id, embedding.post_id
 limit %(limit)s

-- name: posts_to_embed
-- Standing posts without a vector, with one of an older version, or with one whose numbers are old;
-- the newest first, because they are asked for first. `missing` counts all that have no
-- vector at all.
select post.community_id, post.post_id,
       count(*) filter (where embedding.post_id is null) over () as missing
  from post
  join member author
    on author.community_id = post.community_id and author.member_id = post.author_id
  left join post_embedding embedding
    on embedding.community_id = post.community_id and embedding.post_id = post.post_id
   and embedding.model_version = %(model_version)s
 where post.removed_at is null and author.removed_at is null
   and (embedding.post_id is null or embedding.source_version < post.system_version
        or embedding.made_at < %(numbers_before)s)
 order by embedding.post_id is null desc, embedding.source_version < post.system_version desc,
          post.post_id desc
 limit %(limit)s

-- name: members_to_embed
-- Members whose vector is older than their profile or their newest engagement. After bulk work
-- everybody who has one: what was imported may be older than the vector.
select embedding.community_id, embedding.member_id
  from member_embedding embedding
  join member using (community_id, member_id)
 where embedding.model_version = %(model_version)s and member.removed_at is null
   and (%(everybody)s or embedding.source_version < member.system_version
        or exists (
           select from engagement
            where engagement.community_id = embedding.community_id
              and engagement.member_id = embedding.member_id
              and engagement.happened_at > embedding.made_at))
 order by embedding.made_at
 limit %(limit)s

-- name: posts_of_author
-- Every post of one author: to clear the slots when the author is removed.
select community_id, post_id
  from post
 where community_id = %(community_id)s and author_id = %(member_id)s
