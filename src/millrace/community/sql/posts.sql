-- name: write_post
-- Writes one post with its counters, and counts it for its author, if that one still stands.
with made as (
    insert into post (community_id, post_id, external_id, author_id, kind, title, text, link,
                      topics, language, audience, created_at)
    select %(community_id)s::bigint, %(post_id)s::bigint, %(external_id)s, member_id, %(kind)s,
           %(title)s, %(text)s, %(link)s, %(topics)s::text[], %(language)s, %(audience)s,
           %(created_at)s::timestamptz
      from member
     where community_id = %(community_id)s and member_id = %(author_id)s
       and removed_at is null and banned_at is null
        on conflict do nothing
    returning post.*
), counted as (
    insert into post_counter (community_id, post_id) select community_id, post_id from made
), moved as (
    update member_counter counter
       set posts = counter.posts + 1
      from made
     where counter.community_id = made.community_id and counter.member_id = made.author_id
)
select * from made

-- name: post_by_key
-- One post, if the viewer may see it.
select post.*
  from post_seen_by(%(viewer_role)s, %(viewer_community)s::bigint, %(viewer_member)s::bigint)
       as post
 where community_id = %(community_id)s and post_id = %(post_id)s

-- name: post_views
-- What cards need, for those of the asked posts that the viewer may see, in the order asked. The
-- lists are named by selects, so that the planner does not count them: it plans once for all lengths,
-- where it would plan anew for each short one, which takes ten times as long as reading a post.
select post.community_id, post.post_id, post.external_id, post.author_id, post.kind, post.title,
       post.text, post.link, post.topics, post.language, post.audience, post.created_at,
       post.edited_at, post.removed_at, post.system_version, post.hidden_at, post.hidden_reason,
       author.external_id as by_external_id, author.handle as by_handle,
       author.display_name as by_display_name, author.headline as by_headline,
       author.about as by_about, author.skills as by_skills, author.place as by_place,
       author.languages as by_languages, author.role as by_role, author.joined_at as by_joined_at,
       author.removed_at as by_removed_at, author.banned_at as by_banned_at,
       author.system_version as by_system_version,
       community.name as community_name,
       counter.views, counter.clicks, counter.long_dwells, counter.likes, counter.comments,
       counter.shares, counter.hides, counter.reports,
       exists (
           select from reaction
            where reaction.community_id = %(viewer_community)s::bigint
              and reaction.member_id = %(viewer_member)s::bigint
              and reaction.post_community_id = post.community_id
              and reaction.post_id = post.post_id) as liked,
       exists (
           select from follow
            where follow.community_id = %(viewer_community)s::bigint
              and follow.member_id = %(viewer_member)s::bigint
              and follow.target_community_id = post.community_id
              and follow.target_id = post.author_id) as follows_author
  from unnest((select %(communities)s::bigint[]), (select %(posts)s::bigint[]))
       with ordinality as asked (community_id, post_id, place)
  join post_seen_by(%(viewer_role)s, %(viewer_community)s::bigint, %(viewer_member)s::bigint)
       as post using (community_id, post_id)
  join member author
    on author.community_id = post.community_id and author.member_id = post.author_id
  join community on community.community_id = post.community_id
  join post_counter counter
    on counter.community_id = post.community_id and counter.post_id = post.post_id
 order by asked.place

-- name: newest_posts
-- Keys of the newest standing posts that the viewer may see; hidden ones only for their author.
-- Reads a stretch of each community's key range, so it costs what it returns and not what there is.
select newest.community_id, newest.post_id
  from community
 cross join lateral (
       select post.community_id, post.post_id
         from post_seen_by(%(viewer_role)s, %(viewer_community)s::bigint,
                           %(viewer_member)s::bigint) as post
        where post.community_id = community.community_id
          and post.post_id < %(before)s
          and post.removed_at is null
          and (post.hidden_at is null
               or (post.community_id, post.author_id)
                  = (%(viewer_community)s::bigint, %(viewer_member)s::bigint))
          and (%(author_id)s::bigint is null or post.author_id = %(author_id)s::bigint)
        order by post.post_id desc
        limit %(limit)s) as newest
 where %(community_id)s::bigint is null or community.community_id = %(community_id)s::bigint
 order by newest.post_id desc
 fetch first (%(limit)s) rows with ties

-- name: newer_posts
-- Keys of posts by others that a member may see and that are newer than a moment, newest first;
-- without those whose author they muted and those that they hid or reported.
select newest.community_id, newest.post_id
  from community
 cross join lateral (
       select post.community_id, post.post_id
         from post_seen_by(%(viewer_role)s, %(viewer_community)s::bigint,
                           %(viewer_member)s::bigint) as post
        where post.community_id = community.community_id
          and post.post_id >= %(floor)s
          and post.created_at > %(since)s::timestamptz
          and (post.community_id, post.author_id)
              <> (%(viewer_community)s::bigint, %(viewer_member)s::bigint)
          and not exists (
              select from mute
               where mute.community_id = %(viewer_community)s::bigint
                 and mute.member_id = %(viewer_member)s::bigint
                 and mute.target_community_id = post.community_id
                 and mute.target_id = post.author_id)
          and not exists (
              select from engagement
               where engagement.community_id = %(viewer_community)s::bigint
                 and engagement.member_id = %(viewer_member)s::bigint
                 and engagement.post_community_id = post.community_id
                 and engagement.post_id = post.post_id
                 and engagement.kind in ('hide', 'report'))
        order by post.post_id desc
        limit %(limit)s) as newest
 order by newest.post_id desc, newest.community_id desc
 limit %(limit)s

-- name: lock_post
-- Holds a post's row until the transaction ends, so that a change is made from what is there.
select from post
 where community_id = %(community_id)s and post_id = %(post_id)s
   for no key update

-- name: edit_post
-- Changes a post; a change that says nothing new does not touch it.
update post
   set kind = %(kind)s, title = %(title)s, text = %(text)s, link = %(link)s,
       topics = %(topics)s::text[], language = %(language)s, audience = %(audience)s,
       edited_at = %(now)s
 where community_id = %(community_id)s and post_id = %(post_id)s
   and (kind, title, text, link, topics, language, audience) is distinct from
       (%(kind)s, %(title)s, %(text)s, %(link)s, %(topics)s::text[], %(language)s, %(audience)s)
returning post.*

-- name: remove_post
-- Removes a post, once. What is removed is not hidden any more.
update post
   set removed_at = %(now)s, removed_by = %(by)s, removed_reason = %(reason)s,
       hidden_at = null, hidden_by = null, hidden_reason = null
 where community_id = %(community_id)s and post_id = %(post_id)s and removed_at is null

-- name: known_posts
-- Posts that a batch names and that are there already.
select external_id, post_id, author_id, created_at
  from post
 where community_id = %(community_id)s and external_id = any(%(names)s::text[])

-- name: posts_taken
-- Which of these ids are in use.
select post_id as id
  from post
 where community_id = %(community_id)s and post_id = any(%(ids)s::bigint[])

-- name: insert_posts
-- Creates posts and their counters.
with line as materialized (
    select *
      from jsonb_to_recordset(%(rows)s::jsonb) as line (
           post_id bigint, external_id text, author_id bigint, kind text, title text, text text,
           link text, topics text[], language text, audience text, created_at timestamptz,
           views bigint)
), made as (
    insert into post (community_id, post_id, external_id, author_id, kind, title, text, link,
                      topics, language, audience, created_at)
    select %(community_id)s, post_id, external_id, author_id, kind, title, text, link, topics,
           language, audience, created_at
      from line
     order by post_id
    returning community_id, post_id
)
insert into post_counter (community_id, post_id, views)
select made.community_id, made.post_id, line.views from made join line using (post_id)

-- name: update_posts
-- Brings posts up to date; one that says nothing new is not touched.
update post
   set kind = line.kind, title = line.title, text = line.text, link = line.link,
       topics = line.topics, language = line.language, audience = line.audience,
       edited_at = %(now)s
  from jsonb_to_recordset(%(rows)s::jsonb) as line (
       post_id bigint, kind text, title text, text text, link text, topics text[], language text,
       audience text)
 where post.community_id = %(community_id)s and post.post_id = line.post_id
   and (post.kind, post.title, post.text, post.link, post.topics, post.language, post.audience)
       is distinct from
       (line.kind, line.title, line.text, line.link, line.topics, line.language, line.audience)
returning post.post_id

-- name: raise_views
-- Raises the views of posts to what an import says, never lowers them. Locked by key.
with line as (
    select *
      from jsonb_to_recordset(%(rows)s::jsonb) as line (post_id bigint, views bigint)
), locked as materialized (
    select counter.post_id, counter.views as old, line.views as new
      from post_counter counter
      join line using (post_id)
     where counter.community_id = %(community_id)s and counter.views < line.views
     order by counter.post_id
       for update of counter
)
update post_counter counter
   set views = greatest(counter.views, locked.new)
  from locked
 where counter.community_id = %(community_id)s and counter.post_id = locked.post_id
returning counter.post_id, locked.new - locked.old as by
