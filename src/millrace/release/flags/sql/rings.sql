-- name: ring_entries
-- Entries of rings; of one track and ring where they are named, behind a member.
select community_id, member_id, track, ring, choice, actor, chosen_at
  from ring_entry
 where (%(track)s::text is null or track = %(track)s)
   and (%(ring)s::text is null or ring = %(ring)s)
   and (community_id, member_id) > (%(after_community)s::bigint, %(after_member)s::bigint)
 order by community_id, member_id, track, ring
 limit %(limit)s::bigint

-- name: count_entries
-- How many entries each ring of a track has, by what brought them: for pages that name a few.
select ring, choice, count(*) as members
  from ring_entry
 where track = %(track)s
 group by ring, choice

-- name: entries_of_member
-- What a member's entries are.
select community_id, member_id, track, ring, choice, actor, chosen_at
  from ring_entry
 where community_id = %(community_id)s and member_id = %(member_id)s

-- name: entry
-- What a member's place in a ring is, if somebody named it.
select community_id, member_id, track, ring, choice, actor, chosen_at
  from ring_entry
 where community_id = %(community_id)s and member_id = %(member_id)s
   and track = %(track)s and ring = %(ring)s

-- name: put_entry
-- Note a member's place in a ring; nothing where there is no such member, or where their own wish is
-- against a place that somebody gave them. Who is just being removed is waited for, so that no entry
-- comes after the last one went.
insert into ring_entry (community_id, member_id, track, ring, choice, actor, chosen_at)
select community_id, member_id, %(track)s, %(ring)s, %(choice)s, %(actor)s, %(now)s
  from (select community_id, member_id
          from member
         where community_id = %(community_id)s and member_id = %(member_id)s and removed_at is null
           for share) as standing
    on conflict (community_id, member_id, track, ring) do update
       set choice = excluded.choice, actor = excluded.actor, chosen_at = excluded.chosen_at
     where ring_entry.choice <> 'listed' or excluded.choice = 'listed'
returning community_id

-- name: take_entry
-- Take a member's entry away; as a wish, only a wish.
delete from ring_entry
 where community_id = %(community_id)s and member_id = %(member_id)s
   and track = %(track)s and ring = %(ring)s
   and (choice <> 'listed' or %(choice)s = 'listed')

-- name: take_entries
-- Take all places of a member who is removed.
delete from ring_entry
 where community_id = %(community_id)s and member_id = %(member_id)s
returning track, ring

-- name: member_there
-- Whether there is a member.
select true as there
  from member
 where community_id = %(community_id)s and member_id = %(member_id)s and removed_at is null

-- name: tell_entry
-- One line of the trail of entries.
insert into ring_change (community_id, change_id, member_id, track, ring, choice, actor, reason,
                         happened_at)
values (%(community_id)s, %(change_id)s, %(member_id)s, %(track)s, %(ring)s, %(choice)s, %(actor)s,
        %(reason)s, %(now)s)

-- name: ring_history
-- The trail of a member's entries, newest first.
select change_id as id, community_id, member_id, track, ring, choice, actor, reason,
       happened_at as at
  from ring_change
 where community_id = %(community_id)s and member_id = %(member_id)s
 order by change_id desc
 limit %(limit)s

-- name: ring_rules
-- Every rule of every ring; there are a few per track.
select track, ring, attribute, "values", percentage, version from ring_rule order by track, ring

-- name: hold_ring_rule
-- The rule of one ring, which nobody else changes until the transaction ends.
select track, ring, attribute, "values", percentage, version
  from ring_rule
 where track = %(track)s and ring = %(ring)s
   for update

-- name: put_ring_rule
-- The next version of a ring's rule.
insert into ring_rule (track, ring, attribute, "values", percentage, version, changed_at)
values (%(track)s, %(ring)s, %(attribute)s, %(values)s::text[], %(percentage)s, %(version)s, %(now)s)
    on conflict (track, ring) do update
       set attribute = excluded.attribute, "values" = excluded."values",
           percentage = excluded.percentage, version = excluded.version,
           changed_at = excluded.changed_at

-- name: countries
-- The country of every community: what a member's market is known by.
select community_id, country from community

-- name: people
-- Members in the order of their keys, those who may be served, with the app that each was last seen
-- with: for exact counts, in slices.
select member.community_id, member.member_id, coalesce(app.track, '') as track,
       coalesce(app.version, '') as version
  from member
  left join lateral (
       select track, version
         from member_app
        where member_app.community_id = member.community_id
          and member_app.member_id = member.member_id
        order by seen_at desc
        limit 1) as app on true
 where removed_at is null and banned_at is null
   and (member.community_id, member.member_id) > (%(after_community)s::bigint, %(after_member)s::bigint)
 order by member.community_id, member.member_id
 limit %(limit)s
