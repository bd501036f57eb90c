-- name: move_post_counters
-- Adds to the counters of posts. Rows are locked in the order of their keys.
with moves as (
    select *
      from jsonb_to_recordset(%(rows)s::jsonb) as line (
           community_id bigint, post_id bigint, views bigint, clicks bigint, long_dwells bigint,
           likes bigint, comments bigint, shares bigint, hides bigint, reports bigint)
), locked as materialized (
    select counter.community_id, counter.post_id
      from post_counter counter
      join moves using (community_id, post_id)
     order by counter.community_id, counter.post_id
       for update of counter
)
update post_counter counter
   set views = counter.views + moves.views,
       clicks = counter.clicks + moves.clicks,
       long_dwells = counter.long_dwells + moves.long_dwells,
       likes = counter.likes + moves.likes,
       comments = counter.comments + moves.comments,
       shares = counter.shares + moves.shares,
       hides = counter.hides + moves.hides,
       reports = counter.reports + moves.reports
  from moves
  join locked using (community_id, post_id)
 where counter.community_id = moves.community_id and counter.post_id = moves.post_id

-- name: move_member_counters
-- Adds to the counters of members as authors. Rows are locked in the order of their keys.
with moves as (
    select *
      from jsonb_to_recordset(%(rows)s::jsonb) as line (
           community_id bigint, member_id bigint, followers bigint, posts bigint, views bigint,
           likes bigint)
), locked as materialized (
    select counter.community_id, counter.member_id
      from member_counter counter
      join moves using (community_id, member_id)
     order by counter.community_id, counter.member_id
       for update of counter
)
update member_counter counter
   set followers = counter.followers + moves.followers,
       posts = counter.posts + moves.posts,
       views = counter.views + moves.views,
       likes = counter.likes + moves.likes
  from moves
  join locked using (community_id, member_id)
 where counter.community_id = moves.community_id and counter.member_id = moves.member_id
