-- name: log_position
-- Where the log stood before the facts of an embedding were read.
select pg_current_wal_insert_lsn()::text as position

-- name: posts_for_prompts
-- What the prompts of these posts say, with the versions of all that they name, and the prompt that
-- the stored vector was made from. A removed post, or one of a removed author, is not there. In
-- three parts, because to plan one join of eight tables takes longer than to run it.
with standing as materialized (
    select post.community_id, post.post_id, post.author_id, post.kind, post.title, post.text,
           post.topics, post.created_at, post.system_version, author.display_name as author_name,
           author.headline, author.system_version as author_version
      from unnest(%(communities)s::bigint[], %(ids)s::bigint[]) as asked (community_id, post_id)
      join post using (community_id, post_id)
      join member author
        on author.community_id = post.community_id and author.member_id = post.author_id
     where post.removed_at is null and author.removed_at is null
), numbered as materialized (
    select standing.*, counter.views, counter.clicks, counter.long_dwells, counter.likes,
           counter.comments, counter.shares, numbers.followers
      from standing
      join post_counter counter using (community_id, post_id)
      join member_counter numbers
        on numbers.community_id = standing.community_id and numbers.member_id = standing.author_id
)
select numbered.community_id, numbered.post_id, numbered.kind, numbered.title, numbered.text,
       numbered.topics, numbered.created_at, numbered.system_version, numbered.author_name,
       numbered.headline, numbered.author_version, community.name as community_name,
       community.system_version as community_version, numbered.views, numbered.clicks,
       numbered.long_dwells, numbered.likes, numbered.comments, numbered.shares,
       numbered.followers, embedding.prompt_hash
  from numbered
  join community using (community_id)
  left join post_embedding embedding
    on embedding.community_id = numbered.community_id and embedding.post_id = numbered.post_id
   and embedding.model_version = %(model_version)s

-- name: store_post_embeddings
-- Keeps vectors of posts; one made from older versions never wins.
insert into post_embedding (community_id, post_id, model_version, prompt_version, prompt_hash,
                            source_version, author_version, community_version, percentiles,
                            position, vector, made_at)
select community_id, post_id, %(model_version)s, %(prompt_version)s, prompt_hash, source_version,
       author_version, community_version, percentiles::smallint[], %(position)s::pg_lsn, vector,
       %(made_at)s
  from unnest(%(communities)s::bigint[], %(ids)s::bigint[], %(prompt_hashes)s::text[],
              %(source_versions)s::bigint[], %(author_versions)s::bigint[],
              %(community_versions)s::bigint[], %(percentiles)s::text[], %(vectors)s::bytea[])
       as line (community_id, post_id, prompt_hash, source_version, author_version,
                community_version, percentiles, vector)
    on conflict (community_id, post_id, model_version) do update
       set prompt_version = excluded.prompt_version, prompt_hash = excluded.prompt_hash,
           source_version = excluded.source_version, author_version = excluded.author_version,
           community_version = excluded.community_version, percentiles = excluded.percentiles,
           position = excluded.position, vector = excluded.vector, made_at = excluded.made_at
     where post_embedding.source_version <= excluded.source_version
       and post_embedding.author_version <= excluded.author_version
       and post_embedding.community_version <= excluded.community_version

-- name: touch_post_embeddings
-- The prompts of these posts are as they were: only the versions move.
update post_embedding
   set source_version = greatest(post_embedding.source_version, line.source_version),
       author_version = greatest(post_embedding.author_version, line.author_version),
       community_version = greatest(post_embedding.community_version, line.community_version),
       percentiles = line.percentiles::smallint[], made_at = %(made_at)s
  from unnest(%(communities)s::bigint[], %(ids)s::bigint[], %(prompt_hashes)s::text[],
              %(source_versions)s::bigint[], %(author_versions)s::bigint[],
              %(community_versions)s::bigint[], %(percentiles)s::text[])
       as line (community_id, post_id, prompt_hash, source_version, author_version,
                community_version, percentiles)
 where post_embedding.community_id = line.community_id and post_embedding.post_id = line.post_id
   and post_embedding.model_version = %(model_version)s
   and post_embedding.prompt_hash = line.prompt_hash

-- name: drop_post_embeddings
-- The vectors of these posts, of every model.
delete from post_embedding
 using unnest(%(communities)s::bigint[], %(ids)s::bigint[]) as line (community_id, post_id)
 where post_embedding.community_id = line.community_id and post_embedding.post_id = line.post_id

-- name: drop_fallen_posts
-- Vectors of posts that do not stand any more.
delete from post_embedding
 where not exists (
       select from post
         join member author
           on author.community_id = post.community_id and author.member_id = post.author_id
        where post.community_id = post_embedding.community_id
          and post.post_id = post_embedding.post_id
          and post.removed_at is null and author.removed_at is null)

-- name: drop_fallen_members
-- Vectors of members who do not stand any more.
delete from member_embedding
 where not exists (
       select from member
        where member.community_id = member_embedding.community_id
          and member.member_id = member_embedding.member_id and member.removed_at is null)

-- name: store_member_embeddings
-- Keeps vectors of members; one made from an older place of the log never wins. A place that the log
-- has not reached is of another cluster, whose tables these were.
insert into member_embedding (community_id, member_id, model_version, prompt_version, prompt_hash,
                              source_version, position, vector, made_at)
select community_id, member_id, %(model_version)s, %(prompt_version)s, prompt_hash, source_version,
       %(position)s::pg_lsn, vector, %(made_at)s
  from unnest(%(communities)s::bigint[], %(ids)s::bigint[], %(prompt_hashes)s::text[],
              %(source_versions)s::bigint[], %(vectors)s::bytea[])
       as line (community_id, member_id, prompt_hash, source_version, vector)
 order by community_id, member_id
    on conflict (community_id, member_id, model_version) do update
       set prompt_version = excluded.prompt_version, prompt_hash = excluded.prompt_hash,
           source_version = excluded.source_version, position = excluded.position,
           vector = excluded.vector, made_at = excluded.made_at,
           stale_at = case when member_embedding.stale_at > excluded.position
                       and member_embedding.position <= pg_current_wal_insert_lsn()
                      then member_embedding.stale_at end
     where member_embedding.position <= excluded.position
        or member_embedding.position > pg_current_wal_insert_lsn()

-- name: mark_members
-- The vectors of these members are to be made again. Said in the table, so that nobody need remember.
update member_embedding
   set stale_at = pg_current_wal_insert_lsn()
  from unnest(%(communities)s::bigint[], %(ids)s::bigint[]) as line (community_id, member_id)
 where member_embedding.community_id = line.community_id
   and member_embedding.member_id = line.member_id

-- name: mark_readers
-- The same of all members in whose histories these posts are, or posts of these authors.
with changed as (
    select community_id, post_id
      from unnest(%(communities)s::bigint[], %(ids)s::bigint[]) as asked (community_id, post_id)
     union
    select community_id, post_id
      from unnest(%(author_communities)s::bigint[], %(authors)s::bigint[])
           as asked (community_id, author_id)
      join post using (community_id, author_id)
)
update member_embedding
   set stale_at = pg_current_wal_insert_lsn()
 where (community_id, member_id) in (
       select engagement.community_id, engagement.member_id
         from engagement
         join changed on engagement.post_community_id = changed.community_id
                     and engagement.post_id = changed.post_id
        where engagement.kind in ('click', 'long_dwell', 'like', 'comment', 'share'))

-- name: mark_communities
-- The same of all members of these communities.
update member_embedding
   set stale_at = pg_current_wal_insert_lsn()
 where community_id = any(%(communities)s::bigint[])

-- name: mark_everybody
-- The same of everybody.
update member_embedding set stale_at = pg_current_wal_insert_lsn()

-- name: posts_to_embed
-- Standing posts without a vector, or with one of an older version of what its prompt names; the
-- newest first, because they are asked for first. `missing` counts all that have no vector at all.
select post.community_id, post.post_id,
       count(*) filter (where embedding.post_id is null) over () as missing
  from post
  join member author
    on author.community_id = post.community_id and author.member_id = post.author_id
  join community on community.community_id = post.community_id
  left join post_embedding embedding
    on embedding.community_id = post.community_id and embedding.post_id = post.post_id
   and embedding.model_version = %(model_version)s
 where post.removed_at is null and author.removed_at is null
   and (embedding.post_id is null or embedding.source_version < post.system_version
        or embedding.author_version < author.system_version
        or embedding.community_version < community.system_version)
 order by embedding.post_id is null desc, embedding.source_version < post.system_version desc,
          post.post_id desc
 limit %(limit)s

-- name: members_to_embed
-- Members whose vector is older than their profile or than what was heard of them, or is of another
-- model; those who wait longest first. `waiting` counts all. A place that the log has not reached
-- is of another cluster, whose tables these were.
select member.community_id, member.member_id, count(*) over () as waiting
  from member
  left join member_embedding embedding
    on embedding.community_id = member.community_id and embedding.member_id = member.member_id
   and embedding.model_version = %(model_version)s
 where member.removed_at is null
   and (embedding.source_version < member.system_version or embedding.position < embedding.stale_at
        or embedding.position > pg_current_wal_insert_lsn()
        or (embedding.member_id is null and exists (
            select from member_embedding other
             where other.community_id = member.community_id
               and other.member_id = member.member_id)))
 order by embedding.made_at nulls first
 limit %(limit)s

-- name: newest_posts_of
-- The newest standing posts of these authors.
select newest.community_id, newest.post_id
  from unnest(%(communities)s::bigint[], %(ids)s::bigint[]) as author (community_id, member_id)
 cross join lateral (
       select post.community_id, post.post_id
         from post
        where post.community_id = author.community_id and post.author_id = author.member_id
          and post.removed_at is null
        order by post.post_id desc
        limit %(each)s) as newest

-- name: numbers_in_vectors
-- The numbers of posts that have a vector, and those that it was made with, in the order of keys, a
-- stretch at a time, as one row of arrays: it is read faster than a thousand rows. `offset 0` keeps
-- the planner from joining everything before it takes a stretch.
select coalesce(array_agg(stretch.community_id), '{}') as communities,
       coalesce(array_agg(stretch.post_id), '{}') as posts,
       coalesce(array_agg(extract(epoch from stretch.created_at)::float8), '{}') as created,
       coalesce(array_agg(extract(epoch from stretch.made_at)::float8), '{}') as made,
       coalesce(array_agg(stretch.counts), '{}') as counts,
       coalesce(array_agg(array[coalesce(said[1], -100), coalesce(said[2], -100),
                                coalesce(said[3], -100), coalesce(said[4], -100),
                                coalesce(said[5], -100), coalesce(said[6], -100)]),
                '{}') as percentiles
  from (select embedding.community_id, embedding.post_id, embedding.percentiles::integer[] as said,
               embedding.made_at, line.*
          from post_embedding embedding
         cross join lateral (
               select post.created_at,
                      array[counter.views, counter.clicks, counter.long_dwells, counter.likes,
                            counter.comments, counter.shares, numbers.followers]::bigint[] as counts
                 from post
                 join post_counter counter using (community_id, post_id)
                 join member_counter numbers
                   on numbers.community_id = post.community_id
                  and numbers.member_id = post.author_id
                where post.community_id = embedding.community_id
                  and post.post_id = embedding.post_id and post.removed_at is null
               offset 0) as line
         where embedding.model_version = %(model_version)s
           and (embedding.community_id, embedding.post_id) > (%(community_id)s, %(post_id)s)
           and (%(communities)s::bigint[] is null
                or embedding.community_id = any(%(communities)s::bigint[]))
         order by embedding.community_id, embedding.post_id
         limit %(limit)s) as stretch

-- name: members_for_prompts
-- What the prompts of these members say of themselves, with the stored vector of this model. `known`
-- leaves out those who have none of any model: they never opened a feed.
select member.community_id, member.member_id, member.display_name, member.headline, member.about,
       member.skills, member.place, member.languages, member.system_version,
       community.name as community_name, community.language as community_language,
       embedding.vector, embedding.source_version, embedding.prompt_hash,
       embedding.position::text as position
  from unnest(%(communities)s::bigint[], %(ids)s::bigint[]) as asked (community_id, member_id)
  join member using (community_id, member_id)
  join community using (community_id)
  left join member_embedding embedding
    on embedding.community_id = member.community_id and embedding.member_id = member.member_id
   and embedding.model_version = %(model_version)s
 where member.removed_at is null
   and (not %(known)s or embedding.member_id is not null or exists (
        select from member_embedding other
         where other.community_id = member.community_id and other.member_id = member.member_id))

-- name: liked_by_members
-- What these members liked to do, the newest first: the `positives` of the community's activity for
-- several members in one statement, as far as a prompt needs them.
select asked.community_id, asked.member_id, liked.post_communities, liked.post_ids
  from unnest(%(communities)s::bigint[], %(ids)s::bigint[]) as asked (community_id, member_id)
 cross join lateral (
       select coalesce(array_agg(post_community_id), '{}') as post_communities,
              coalesce(array_agg(post_id), '{}') as post_ids
         from (select post_community_id, post_id
                 from engagement
                where engagement.community_id = asked.community_id
                  and engagement.member_id = asked.member_id
                  and kind = any(%(kinds)s::text[])
                  and (kind <> 'like' or exists (
                       select from reaction
                        where reaction.community_id = engagement.community_id
                          and reaction.member_id = engagement.member_id
                          and reaction.post_community_id = engagement.post_community_id
                          and reaction.post_id = engagement.post_id
                          and reaction.created_at <= engagement.happened_at))
                order by happened_at desc, post_community_id desc, post_id desc, kind desc
                limit %(limit)s) as newest) as liked

-- name: members_banned
-- Members who are out of everybody's sight and may come back.
select community_id, member_id from member where banned_at is not null and removed_at is null

-- name: embedded_up_to
-- The position up to which the process that has the slot needs no log: what it heard before is done.
select (confirmed_flush_lsn - '0/0'::pg_lsn)::bigint
  from pg_replication_slots
 where slot_name = 'millrace_embedding_' || (select oid from pg_database
                                              where datname = current_database())

-- name: standing_posts
-- The posts that stand, in the order of their keys, a stretch at a time.
select post.community_id, post.post_id
  from post
  join member author
    on author.community_id = post.community_id and author.member_id = post.author_id
 where (post.community_id, post.post_id) > (%(community_id)s, %(id)s)
   and post.removed_at is null and author.removed_at is null
 order by post.community_id, post.post_id
 limit %(limit)s

-- name: stored_vectors
-- The vectors of these posts, with what they were made from.
select community_id, post_id, prompt_hash, percentiles, source_version, author_version,
       community_version, vector
  from post_embedding
  join unnest(%(communities)s::bigint[], %(ids)s::bigint[]) as asked (community_id, post_id)
       using (community_id, post_id)
 where model_version = %(model_version)s

-- name: vectors_of_the_fallen
-- Vectors of posts that do not stand: there should be none.
select community_id, post_id
  from post_embedding
 where model_version = %(model_version)s
   and not exists (
       select from post
         join member author
           on author.community_id = post.community_id and author.member_id = post.author_id
        where post.community_id = post_embedding.community_id
          and post.post_id = post_embedding.post_id
          and post.removed_at is null and author.removed_at is null)
 order by community_id, post_id

-- name: embedded_members
-- Members who have a vector of whichever model, in the order of their keys, a stretch at a time;
-- and whether this model's is known to be out of date.
select member.community_id, member.member_id,
       embedding.member_id is null or embedding.source_version < member.system_version
       or coalesce(embedding.position < embedding.stale_at, false) as stale
  from member
  left join member_embedding embedding
    on embedding.community_id = member.community_id and embedding.member_id = member.member_id
   and embedding.model_version = %(model_version)s
 where (member.community_id, member.member_id) > (%(community_id)s, %(id)s)
   and member.removed_at is null
   and exists (select from member_embedding other
                where other.community_id = member.community_id
                  and other.member_id = member.member_id)
 order by member.community_id, member.member_id
 limit %(limit)s

-- name: drop_other_models
-- Vectors of posts of models that are not among the encoders: left by an earlier release.
delete from post_embedding
 where model_version <> %(model_version)s
   and model_version not in (select version from encoder_version where state <> 'retired')

-- name: drop_other_models_of_members
-- The same of members.
delete from member_embedding
 where model_version <> %(model_version)s
   and model_version not in (select version from encoder_version where state <> 'retired')
