-- name: newest_record
-- What a member was served last.
select record
  from served_feed
 where community_id = %(community_id)s and member_id = %(member_id)s
 order by served_feed_id desc
 limit 1

-- name: embedded_after
-- How long after they were written posts of this run had a vector, in milliseconds.
select extract(epoch from embedding.made_at - post.created_at)::float8 * 1000 as milliseconds
  from post
  join post_embedding embedding using (community_id, post_id)
 where post.created_at >= %(since)s

-- name: take_members_as_made
-- A new installation looks at every member again, because nobody knows what the log said before it.
-- Here all of them were just filled in, so it need not.
update member_embedding set stale_at = null where stale_at is not null
