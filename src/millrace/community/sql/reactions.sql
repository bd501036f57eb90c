-- name: insert_like
-- Adds a like, if it is not there.
insert into reaction (community_id, member_id, post_community_id, post_id, created_at)
values (%(community_id)s, %(member_id)s, %(post_community_id)s, %(post_id)s, %(now)s)
    on conflict do nothing

-- name: delete_like
-- Takes a like back, if it is there.
delete from reaction
 where community_id = %(community_id)s and member_id = %(member_id)s
   and post_community_id = %(post_community_id)s and post_id = %(post_id)s and kind = 'like'

-- name: insert_likes
-- Adds the likes that engagements brought; returns those that are new.
insert into reaction (community_id, member_id, post_community_id, post_id, created_at)
select community_id, member_id, post_community_id, post_id, min(at)
  from jsonb_to_recordset(%(rows)s::jsonb) as line (
       community_id bigint, member_id bigint, post_community_id bigint, post_id bigint,
       at timestamptz)
 group by community_id, member_id, post_community_id, post_id
 order by community_id, member_id, post_community_id, post_id
    on conflict do nothing
returning community_id, member_id, created_at as at, post_community_id, post_id, kind
