-- name: relations
-- All that stands between one member and others: five reads of key ranges in one round trip.
select 'follow' as kind, target_community_id as community_id, target_id as id
  from follow
 where community_id = %(community_id)s and member_id = %(member_id)s
 union all
select 'block', target_community_id, target_id
  from block
 where community_id = %(community_id)s and member_id = %(member_id)s
 union all
select 'block', community_id, member_id
  from block
 where target_community_id = %(community_id)s and target_id = %(member_id)s
 union all
select 'mute', target_community_id, target_id
  from mute
 where community_id = %(community_id)s and member_id = %(member_id)s
 union all
select 'nearby', neighbour_id, 0
  from nearby
 where community_id = %(community_id)s

-- name: hold_pairs
-- Holds one member of each pair, the one with the smaller key, in the order of keys: so a follow and
-- a block of the same two members wait for each other, and the later one sees the earlier.
select
  from member
 where (community_id, member_id) in (
       select least(community_id, target_community_id),
              case when community_id < target_community_id then member_id
                   when community_id > target_community_id then target_id
                   else least(member_id, target_id) end
         from jsonb_to_recordset(%(rows)s::jsonb) as line (
              community_id bigint, member_id bigint, target_community_id bigint, target_id bigint))
 order by community_id, member_id
   for no key update

-- name: insert_follow
-- Adds a follow, if it is not there. Holds the one who follows, so that a removal, which ends what
-- they follow, is either before it or sees it.
insert into follow (community_id, member_id, target_community_id, target_id, created_at)
select community_id, member_id, %(target_community_id)s::bigint, %(target_id)s::bigint,
       %(now)s::timestamptz
  from member
 where community_id = %(community_id)s and member_id = %(member_id)s and removed_at is null
   for share
    on conflict do nothing

-- name: delete_follow
-- Ends a follow, if it is there.
delete from follow
 where community_id = %(community_id)s and member_id = %(member_id)s
   and target_community_id = %(target_community_id)s and target_id = %(target_id)s

-- name: end_follows
-- Ends everything that a member follows, locked in the order of keys.
with locked as materialized (
    select community_id, member_id, target_community_id, target_id
      from follow
     where community_id = %(community_id)s and member_id = %(member_id)s
     order by target_community_id, target_id
       for update
)
delete from follow
 using locked
 where follow.community_id = locked.community_id and follow.member_id = locked.member_id
   and follow.target_community_id = locked.target_community_id
   and follow.target_id = locked.target_id
returning follow.target_community_id, follow.target_id

-- name: delete_block
-- Takes a block back, if it is there.
delete from block
 where community_id = %(community_id)s and member_id = %(member_id)s
   and target_community_id = %(target_community_id)s and target_id = %(target_id)s

-- name: delete_mute
-- Takes a mute back, if it is there.
delete from mute
 where community_id = %(community_id)s and member_id = %(member_id)s
   and target_community_id = %(target_community_id)s and target_id = %(target_id)s

-- name: member_stands
-- Whether a member is there, neither removed nor banned, whatever stands between them and the asker.
select true from member
 where community_id = %(community_id)s and member_id = %(member_id)s
   and removed_at is null and banned_at is null

-- name: insert_blocks
-- Adds blocks that are not there, in the order of their keys.
insert into block (community_id, member_id, target_community_id, target_id, created_at)
select distinct community_id, member_id, target_community_id, target_id, %(now)s::timestamptz
  from jsonb_to_recordset(%(rows)s::jsonb) as line (
       community_id bigint, member_id bigint, target_community_id bigint, target_id bigint)
 order by community_id, member_id, target_community_id, target_id
    on conflict do nothing

-- name: insert_mutes
-- Adds mutes that are not there, in the order of their keys.
insert into mute (community_id, member_id, target_community_id, target_id, created_at)
select distinct community_id, member_id, target_community_id, target_id, %(now)s::timestamptz
  from jsonb_to_recordset(%(rows)s::jsonb) as line (
       community_id bigint, member_id bigint, target_community_id bigint, target_id bigint)
 order by community_id, member_id, target_community_id, target_id
    on conflict do nothing

-- name: delete_follows_between
-- Ends the follows between the two sides of each pair, in both directions, locked by key.
with pair as (
    select *
      from jsonb_to_recordset(%(rows)s::jsonb) as line (
           community_id bigint, member_id bigint, target_community_id bigint, target_id bigint)
), doomed as (
    select community_id, member_id, target_community_id, target_id from pair
     union
    select target_community_id, target_id, community_id, member_id from pair
), locked as materialized (
    select follow.community_id, follow.member_id, follow.target_community_id, follow.target_id
      from follow
      join doomed using (community_id, member_id, target_community_id, target_id)
     order by 1, 2, 3, 4
       for update of follow
)
delete from follow
 using locked
 where follow.community_id = locked.community_id and follow.member_id = locked.member_id
   and follow.target_community_id = locked.target_community_id
   and follow.target_id = locked.target_id
returning follow.community_id, follow.member_id, follow.target_community_id, follow.target_id

-- name: pairs_apart
-- Which of these drafts name two members with a block between them.
select line.index
  from jsonb_to_recordset(%(rows)s::jsonb) as line (
       index integer, community_id bigint, member_id bigint, target_community_id bigint,
       target_id bigint)
 where exists (
       select from block
        where (block.community_id, block.member_id, block.target_community_id, block.target_id)
            = (line.community_id, line.member_id, line.target_community_id, line.target_id))
    or exists (
       select from block
        where (block.community_id, block.member_id, block.target_community_id, block.target_id)
            = (line.target_community_id, line.target_id, line.community_id, line.member_id))

-- name: insert_follows
-- Adds follows that are not there and that no block forbids, in the order of their keys. Who is
-- removed follows nobody.
insert into follow (community_id, member_id, target_community_id, target_id, created_at)
select line.community_id, line.member_id, line.target_community_id, line.target_id, line.created_at
  from jsonb_to_recordset(%(rows)s::jsonb) as line (
       community_id bigint, member_id bigint, target_community_id bigint, target_id bigint,
       created_at timestamptz)
 where not exists (
       select from block
        where (block.community_id, block.member_id, block.target_community_id, block.target_id)
            = (line.community_id, line.member_id, line.target_community_id, line.target_id))
   and not exists (
       select from block
        where (block.community_id, block.member_id, block.target_community_id, block.target_id)
            = (line.target_community_id, line.target_id, line.community_id, line.member_id))
   and exists (
       select from member
        where (member.community_id, member.member_id) = (line.community_id, line.member_id)
          and member.removed_at is null)
 order by line.community_id, line.member_id, line.target_community_id, line.target_id
    on conflict do nothing
returning community_id, member_id, target_community_id, target_id

-- name: list_follows
-- Whom a member follows, as far as the viewer may meet them: a stretch of a key range.
select member.*
  from follow
  join member_seen_by(%(viewer_role)s, %(viewer_community)s::bigint, %(viewer_member)s::bigint)
       as member
    on member.community_id = follow.target_community_id and member.member_id = follow.target_id
 where follow.community_id = %(community_id)s and follow.member_id = %(member_id)s
   and (follow.target_community_id, follow.target_id)
     > (%(after_community)s::bigint, %(after_member)s::bigint)
   and member.removed_at is null and member.banned_at is null
 order by follow.target_community_id, follow.target_id
 limit %(limit)s

-- name: list_followers
-- Who follows a member, as far as the viewer may meet them: a stretch of the index by target.
select member.*
  from follow
  join member_seen_by(%(viewer_role)s, %(viewer_community)s::bigint, %(viewer_member)s::bigint)
       as member
    on member.community_id = follow.community_id and member.member_id = follow.member_id
 where follow.target_community_id = %(community_id)s and follow.target_id = %(member_id)s
   and (follow.community_id, follow.member_id)
     > (%(after_community)s::bigint, %(after_member)s::bigint)
   and member.removed_at is null and member.banned_at is null
 order by follow.community_id, follow.member_id
 limit %(limit)s

-- name: list_blocks
-- Whom a member blocked: shown to the one who did it, so that it can be taken back.
select member.*
  from block
  join member
    on member.community_id = block.target_community_id and member.member_id = block.target_id
 where block.community_id = %(community_id)s and block.member_id = %(member_id)s
   and (block.target_community_id, block.target_id)
     > (%(after_community)s::bigint, %(after_member)s::bigint)
   and member.removed_at is null
 order by block.target_community_id, block.target_id
 limit %(limit)s

-- name: list_mutes
-- Whom a member muted: shown to the one who did it, so that it can be taken back.
select member.*
  from mute
  join member
    on member.community_id = mute.target_community_id and member.member_id = mute.target_id
 where mute.community_id = %(community_id)s and mute.member_id = %(member_id)s
   and (mute.target_community_id, mute.target_id)
     > (%(after_community)s::bigint, %(after_member)s::bigint)
   and member.removed_at is null
 order by mute.target_community_id, mute.target_id
 limit %(limit)s
