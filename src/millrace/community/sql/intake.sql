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

-- name: statistics_are_old
-- Whether a table of the community has doubled since the planner last looked at it.
select exists (
    select from pg_class
     where oid in ('community'::regclass, 'member'::regclass, 'member_counter'::regclass,
                   'post'::regclass, 'post_counter'::regclass, 'comment'::regclass,
                   'follow'::regclass, 'reaction'::regclass, 'impression'::regclass,
                   'engagement'::regclass)
       and pg_relation_size(oid) / 8192 > 2 * relpages + 10)

-- name: analyze
-- Tells the planner how large the tables are. Always the last lock of a transaction, always in
-- this order, so that two of them wait and never deadlock.
analyze community, nearby, member, member_counter, post, post_counter, comment, follow, block, mute,
        reaction, impression, engagement
