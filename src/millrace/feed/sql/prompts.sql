-- name: ensure_prompt_days
-- Makes the daily partitions of the log of prompts from a day on; returns how many were missing.
select ensure_prompt_line_days(%(first)s::date, %(days)s::integer)

-- name: drop_prompt_days
-- Drops the daily partitions that end before a day, and carries on what is in force; returns how many.
select drop_prompt_line_days(%(before)s::date, %(today)s::date)

-- name: write_prompts_of_posts
-- What the prompts of these posts said, of which vectors were just stored; not where one that was made
-- of newer facts stands, nor where the post has gone meanwhile.
insert into prompt_line (community_id, thing_kind, thing_id, line_id, kept_on, model_version,
                         prompt_version, prompt_hash, position, made_at, stored_at, facts)
select line.community_id, 'post', line.id, line.line_id, %(kept_on)s::date, %(model_version)s,
       %(prompt_version)s, line.prompt_hash, %(position)s::pg_lsn, %(made_at)s, %(stored_at)s,
       line.facts
  from unnest(%(communities)s::bigint[], %(ids)s::bigint[], %(lines)s::bigint[],
              %(hashes)s::text[], %(facts)s::bytea[])
       as line (community_id, id, line_id, prompt_hash, facts)
  join post_embedding made
    on made.community_id = line.community_id and made.post_id = line.id
   and made.model_version = %(model_version)s and made.prompt_hash = line.prompt_hash
  join post
    on post.community_id = line.community_id and post.post_id = line.id
 where post.removed_at is null

-- name: write_prompts_of_members
-- The same of members.
insert into prompt_line (community_id, thing_kind, thing_id, line_id, kept_on, model_version,
                         prompt_version, prompt_hash, position, made_at, stored_at, facts)
select line.community_id, 'member', line.id, line.line_id, %(kept_on)s::date, %(model_version)s,
       %(prompt_version)s, line.prompt_hash, %(position)s::pg_lsn, %(made_at)s, %(stored_at)s,
       line.facts
  from unnest(%(communities)s::bigint[], %(ids)s::bigint[], %(lines)s::bigint[],
              %(hashes)s::text[], %(facts)s::bytea[])
       as line (community_id, id, line_id, prompt_hash, facts)
  join member_embedding made
    on made.community_id = line.community_id and made.member_id = line.id
   and made.model_version = %(model_version)s and made.prompt_hash = line.prompt_hash
  join member
    on member.community_id = line.community_id and member.member_id = line.id
 where member.removed_at is null

-- name: drop_prompts_of_posts
-- What the prompts of these posts said, with every model.
delete from prompt_line
 using unnest(%(communities)s::bigint[], %(ids)s::bigint[]) as line (community_id, post_id)
 where prompt_line.community_id = line.community_id and prompt_line.thing_kind = 'post'
   and prompt_line.thing_id = line.post_id

-- name: drop_fallen_prompts
-- Lines of posts and members who do not stand any more: one was written just as its thing went. Only
-- the newest days are read, because every start and every few hours look at them.
delete from prompt_line
 where kept_on >= %(since)s::date
   and case thing_kind
       when 'post' then not exists (
            select from post
              join member author
                on author.community_id = post.community_id and author.member_id = post.author_id
             where post.community_id = prompt_line.community_id
               and post.post_id = prompt_line.thing_id
               and post.removed_at is null and author.removed_at is null)
       else not exists (
            select from member
             where member.community_id = prompt_line.community_id
               and member.member_id = prompt_line.thing_id and member.removed_at is null)
       end

-- name: forget_prompts
-- All that the log says of a member, and of the posts that they wrote. Two statements, each of which
-- reads its own part of the key.
with of_posts as (
    delete from prompt_line
     using post
     where post.community_id = %(community_id)s and post.author_id = %(member_id)s
       and prompt_line.community_id = post.community_id and prompt_line.thing_kind = 'post'
       and prompt_line.thing_id = post.post_id)
delete from prompt_line
 where community_id = %(community_id)s and thing_kind = 'member' and thing_id = %(member_id)s
