-- name: communities
-- Every community, by name.
select community_id, external_id, name, description, language, place, created_at, system_version,
       country
  from community
 order by name, community_id

-- name: community_by_id
-- One community.
select community_id, external_id, name, description, language, place, created_at, system_version,
       country
  from community
 where community_id = %(community_id)s

-- name: community_named
-- One community by external id, or else by id.
select community_id, external_id, name, description, language, place, created_at, system_version,
       country
  from community
 where external_id = %(name)s or community_id::text = %(name)s
 order by external_id = %(name)s desc
 limit 1

-- name: community_ids
-- The ids of all communities by external id.
select external_id, community_id as id from community

-- name: insert_communities
-- Creates those communities that are new.
insert into community (community_id, external_id, name, description, language, place, created_at,
                       country)
select line.community_id, line.external_id, line.name, line.description, line.language, line.place,
       line.created_at, line.country
  from jsonb_to_recordset(%(rows)s::jsonb) as line (
       community_id bigint, external_id text, name text, description text, language text,
       place text, created_at timestamptz, country text)
 where not exists (select from community old where old.community_id = line.community_id)
 order by line.community_id

-- name: update_communities
-- Brings communities up to date; one that says nothing new is not touched.
update community
   set name = line.name, description = line.description, language = line.language,
       place = line.place, country = line.country
  from jsonb_to_recordset(%(rows)s::jsonb) as line (
       community_id bigint, name text, description text, language text, place text,
       country text)
 where community.community_id = line.community_id
   and (community.name, community.description, community.language, community.place,
        community.country)
       is distinct from (line.name, line.description, line.language, line.place, line.country)
returning community.community_id

-- name: replace_nearby
-- Makes the neighbours of these communities exactly those given; returns whose changed.
with wanted as (
    select *
      from jsonb_to_recordset(%(rows)s::jsonb) as line (community_id bigint, neighbour_id bigint)
), gone as (
    delete from nearby
     where community_id = any(%(ids)s::bigint[])
       and not exists (
           select from wanted
            where wanted.community_id = nearby.community_id
              and wanted.neighbour_id = nearby.neighbour_id)
    returning community_id
), come as (
    insert into nearby (community_id, neighbour_id, created_at)
    select community_id, neighbour_id, %(now)s from wanted
     order by community_id, neighbour_id
        on conflict do nothing
    returning community_id
)
select community_id from gone union select community_id from come

-- name: community_sizes
-- How large each community is, from the counters of its members: posts are not read.
select community_id, count(*) as members, coalesce(sum(counter.posts), 0)::bigint as posts
  from member
  left join member_counter counter using (community_id, member_id)
 where member.removed_at is null and member.banned_at is null
 group by community_id

-- name: near
-- The communities whose nearby posts one community sees, by name.
select neighbour.community_id, external_id, name, description, language, place,
       neighbour.created_at, neighbour.system_version, neighbour.country
  from nearby
  join community neighbour on neighbour.community_id = nearby.neighbour_id
 where nearby.community_id = %(community_id)s
 order by name, neighbour.community_id

-- name: reached_by
-- The communities that see the nearby posts of one community, by name. Reads the table of
-- neighbours whole, which is small.
select seeing.community_id, external_id, name, description, language, place,
       seeing.created_at, seeing.system_version, seeing.country
  from nearby
  join community seeing on seeing.community_id = nearby.community_id
 where nearby.neighbour_id = %(community_id)s
 order by name, seeing.community_id

-- name: moderators
-- Who keeps order in a community, of those whom the viewer may meet.
select member.*
  from member_seen_by(%(viewer_role)s, %(viewer_community)s::bigint, %(viewer_member)s::bigint)
       as member
 where community_id = %(community_id)s and role = 'moderator' and removed_at is null
 order by display_name, member_id
 limit %(limit)s
