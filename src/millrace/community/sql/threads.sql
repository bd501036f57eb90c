-- name: write_comment
-- Writes one comment, if its author still stands.
insert into comment (community_id, comment_id, external_id, author_id, post_community_id, post_id,
                     parent_community_id, parent_id, text, created_at)
select %(community_id)s::bigint, %(comment_id)s::bigint, %(external_id)s, member_id,
       %(post_community_id)s::bigint, %(post_id)s::bigint, %(parent_community_id)s::bigint,
       %(parent_id)s::bigint, %(text)s, %(created_at)s::timestamptz
  from member
 where community_id = %(community_id)s and member_id = %(author_id)s
   and removed_at is null and banned_at is null
    on conflict do nothing
returning comment.*

-- name: comment_by_key
-- One comment, if the viewer may see it.
select comment.*
  from comment_seen_by(%(viewer_role)s, %(viewer_community)s::bigint, %(viewer_member)s::bigint)
       as comment
 where community_id = %(community_id)s and comment_id = %(comment_id)s

-- name: thread
-- A stretch of a post's comments that the viewer may see, with their authors, oldest first.
select comment.community_id, comment.comment_id, comment.external_id, comment.author_id,
       comment.post_community_id, comment.post_id, comment.parent_community_id, comment.parent_id,
       comment.text, comment.created_at, comment.edited_at, comment.removed_at,
       comment.system_version, comment.hidden_at, comment.hidden_reason,
       author.external_id as by_external_id, author.handle as by_handle,
       author.display_name as by_display_name, author.headline as by_headline,
       author.about as by_about, author.skills as by_skills, author.place as by_place,
       author.languages as by_languages, author.role as by_role, author.joined_at as by_joined_at,
       author.removed_at as by_removed_at, author.banned_at as by_banned_at,
       author.system_version as by_system_version
  from comment_seen_by(%(viewer_role)s, %(viewer_community)s::bigint, %(viewer_member)s::bigint)
       as comment
  join member author
    on author.community_id = comment.community_id and author.member_id = comment.author_id
 where comment.post_community_id = %(post_community_id)s and comment.post_id = %(post_id)s
   and comment.comment_id > %(after)s
 order by comment.comment_id
 fetch first (%(limit)s) rows with ties

-- name: remove_comment
-- Removes a comment, once. What is removed is not hidden any more.
update comment
   set removed_at = %(now)s, removed_by = %(by)s, removed_reason = %(reason)s,
       hidden_at = null, hidden_by = null, hidden_reason = null
 where community_id = %(community_id)s and comment_id = %(comment_id)s and removed_at is null

-- name: known_comments
-- Comments that a batch names and that are there already.
select external_id, comment_id, author_id, post_community_id, post_id, parent_id, created_at
  from comment
 where community_id = %(community_id)s and external_id = any(%(names)s::text[])

-- name: comments_taken
-- Which of these ids are in use.
select comment_id as id
  from comment
 where community_id = %(community_id)s and comment_id = any(%(ids)s::bigint[])

-- name: insert_comments
-- Creates comments.
insert into comment (community_id, comment_id, external_id, author_id, post_community_id, post_id,
                     parent_community_id, parent_id, text, created_at)
select %(community_id)s, comment_id, external_id, author_id, %(community_id)s, post_id,
       case when parent_id is not null then %(community_id)s::bigint end, parent_id, text,
       created_at
  from jsonb_to_recordset(%(rows)s::jsonb) as line (
       comment_id bigint, external_id text, author_id bigint, post_id bigint, parent_id bigint,
       text text, created_at timestamptz)
 order by comment_id

-- name: update_comments
-- Brings comments up to date; one that says nothing new is not touched.
update comment
   set text = line.text, edited_at = %(now)s
  from jsonb_to_recordset(%(rows)s::jsonb) as line (comment_id bigint, text text)
 where comment.community_id = %(community_id)s and comment.comment_id = line.comment_id
   and comment.text is distinct from line.text
