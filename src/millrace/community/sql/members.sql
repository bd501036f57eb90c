-- name: member_by_key
-- One member, if the viewer may meet them.
select member.*
  from member_seen_by(%(viewer_role)s, %(viewer_community)s::bigint, %(viewer_member)s::bigint)
       as member
 where community_id = %(community_id)s and member_id = %(member_id)s

-- name: members_by_keys
-- Several members, to be called by their names; those who are gone as well.
select member.*
  from unnest((select %(communities)s::bigint[]), (select %(members)s::bigint[]))
       as asked (community_id, member_id)
  join member using (community_id, member_id)

-- name: members_named
-- Members by key, handle or external id, in every community.
select member.*
  from community
  join member using (community_id)
 where member.handle = %(name)s or member.external_id = %(name)s
    or (community_id = %(community_id)s and member.member_id = %(member_id)s)
 order by community_id, member_id
 limit 20

-- name: members_of_community
-- A stretch of a community's members, by id.
select member.*
  from member_seen_by(%(viewer_role)s, %(viewer_community)s::bigint, %(viewer_member)s::bigint)
       as member
 where community_id = %(community_id)s and member_id > %(after)s
 order by member_id
 limit %(limit)s

-- name: newest_members
-- The members who came last: ids are made of the day of joining.
select member.*
  from member_seen_by(%(viewer_role)s, %(viewer_community)s::bigint, %(viewer_member)s::bigint)
       as member
 where community_id = %(community_id)s and removed_at is null and banned_at is null
 order by member_id desc
 limit %(limit)s

-- name: member_sample
-- The members with most to show, of every community in turn: first by the least of their posts,
-- followers and positive engagements (of which twenty count), so that nothing of theirs is empty.
-- Reads all counters: for a demo only.
select member.*
  from (select community_id, member_id,
               row_number() over (
                   partition by community_id
                   order by least(posts, followers, history) desc, posts + followers + history desc,
                            member_id) as turn
          from member_counter
          join member using (community_id, member_id)
         cross join lateral (
               select count(*) as history
                 from (select from engagement
                        where engagement.community_id = member.community_id
                          and engagement.member_id = member.member_id
                          and kind = any(%(kinds)s::text[])
                        limit 20) as counted) as own
         where removed_at is null and banned_at is null) as ranked
  join member using (community_id, member_id)
 order by ranked.turn, community_id
 limit %(limit)s

-- name: member_counts
-- The numbers of a member as an author.
select followers, posts, views, likes
  from member_counter
 where community_id = %(community_id)s and member_id = %(member_id)s

-- name: member_profile
-- What a profile page says beside the profile: numbers, and what the viewer did about the member.
select counter.followers, counter.posts, counter.views, counter.likes,
       (select count(*) from follow
         where follow.community_id = counter.community_id
           and follow.member_id = counter.member_id) as following,
       community.name as community_name,
       exists (
           select from follow
            where (follow.community_id, follow.member_id, follow.target_community_id,
                   follow.target_id)
                = (%(viewer_community)s::bigint, %(viewer_member)s::bigint, counter.community_id,
                   counter.member_id)) as followed_by_me,
       exists (
           select from follow
            where (follow.community_id, follow.member_id, follow.target_community_id,
                   follow.target_id)
                = (counter.community_id, counter.member_id, %(viewer_community)s::bigint,
                   %(viewer_member)s::bigint)) as follows_me,
       exists (
           select from block
            where (block.community_id, block.member_id, block.target_community_id, block.target_id)
                = (%(viewer_community)s::bigint, %(viewer_member)s::bigint, counter.community_id,
                   counter.member_id)) as blocked_by_me,
       exists (
           select from mute
            where (mute.community_id, mute.member_id, mute.target_community_id, mute.target_id)
                = (%(viewer_community)s::bigint, %(viewer_member)s::bigint, counter.community_id,
                   counter.member_id)) as muted_by_me
  from member_counter counter
  join community on community.community_id = counter.community_id
 where counter.community_id = %(community_id)s and counter.member_id = %(member_id)s

-- name: lock_member
-- Holds a member's row until the transaction ends, so that a change is made from what is there.
select from member
 where community_id = %(community_id)s and member_id = %(member_id)s
   for no key update

-- name: update_profile
-- Changes a profile; one that says nothing new is not touched.
update member
   set display_name = %(display_name)s, headline = %(headline)s, about = %(about)s,
       skills = %(skills)s::text[], place = %(place)s, languages = %(languages)s::text[]
 where community_id = %(community_id)s and member_id = %(member_id)s
   and (display_name, headline, about, skills, place, languages) is distinct from
       (%(display_name)s, %(headline)s, %(about)s, %(skills)s::text[], %(place)s,
        %(languages)s::text[])
returning member.*

-- name: remove_member
-- Removes a member, once.
update member
   set removed_at = %(now)s, removed_by = %(by)s, removed_reason = %(reason)s
 where community_id = %(community_id)s and member_id = %(member_id)s and removed_at is null

-- name: known_members
-- Members that a batch names and that are there already.
select external_id, member_id, joined_at
  from member
 where community_id = %(community_id)s and external_id = any(%(names)s::text[])

-- name: handle_owners
-- Who has these handles.
select handle, member_id
  from member
 where community_id = %(community_id)s and handle = any(%(handles)s::text[])

-- name: members_taken
-- Which of these ids are in use.
select member_id as id
  from member
 where community_id = %(community_id)s and member_id = any(%(ids)s::bigint[])

-- name: insert_members
-- Creates members and their counters.
with made as (
    insert into member (community_id, member_id, external_id, handle, display_name, headline,
                        about, skills, place, languages, role, joined_at)
    select %(community_id)s, line.*
      from jsonb_to_recordset(%(rows)s::jsonb) as line (
           member_id bigint, external_id text, handle text, display_name text, headline text,
           about text, skills text[], place text, languages text[], role text,
           joined_at timestamptz)
     order by line.member_id
    returning community_id, member_id
)
insert into member_counter (community_id, member_id)
select community_id, member_id from made

-- name: update_members
-- Brings members up to date; one that says nothing new is not touched. Locked by key: a follow holds
-- two members, the smaller key first.
with line as materialized (
    select *
      from jsonb_to_recordset(%(rows)s::jsonb) as line (
           member_id bigint, handle text, display_name text, headline text, about text,
           skills text[], place text, languages text[], role text)
), locked as materialized (
    select member.member_id
      from member
      join line using (member_id)
     where member.community_id = %(community_id)s
       and (member.handle, member.display_name, member.headline, member.about, member.skills,
            member.place, member.languages, member.role)
           is distinct from
           (coalesce(nullif(line.handle, ''), member.handle), line.display_name, line.headline,
            line.about, line.skills, line.place, line.languages, line.role)
     order by member.member_id
       for no key update of member
)
update member
   set handle = coalesce(nullif(line.handle, ''), member.handle),
       display_name = line.display_name, headline = line.headline, about = line.about,
       skills = line.skills, place = line.place, languages = line.languages, role = line.role
  from line
  join locked using (member_id)
 where member.community_id = %(community_id)s and member.member_id = line.member_id
