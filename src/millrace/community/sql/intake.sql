-- name: lock_bulk
-- One bulk transaction at a time per community; released at its end.
select pg_advisory_xact_lock(hashtextextended('millrace.bulk', %(community_id)s::bigint))

-- name: member_ids
-- Members by external id.
select external_id, member_id as id
  from member
 where community_id = %(community_id)s and external_id = any(%(names)s::text[])

-- name: post_ids
-- Posts by external id.
select external_id, post_id as id
  from post
 where community_id = %(community_id)s and external_id = any(%(names)s::text[])

-- name: community_exists
-- Whether there is a community with this id.
select true from community where community_id = %(community_id)s
