-- name: encoder_versions
-- Every encoder of this installation, the newest first: a few rows.
select version, name, directory, dims, history, state, chosen, metrics, fault, added_by, added_at,
       changed_by, changed_at, served_at
  from encoder_version
 order by added_at desc, version

-- name: lock_encoder_versions
-- One change of what serves at a time: who comes second sees what the first one did.
select pg_advisory_xact_lock(hashtextextended('millrace encoder versions', 0))

-- name: insert_encoder_version
-- Keeps a new encoder; one that was retired, or could not be used, begins anew.
insert into encoder_version (version, name, directory, dims, history, state, chosen, metrics,
                             added_by, added_at, changed_by, changed_at, served_at)
values (%(version)s, %(name)s, %(directory)s, %(dims)s, %(history)s, %(state)s, %(chosen)s,
        %(metrics)s, %(by)s, %(now)s, %(by)s, %(now)s, case when %(state)s = 'serving' then %(now)s::timestamptz end)
    on conflict (version) do update
       set name = excluded.name, directory = excluded.directory, dims = excluded.dims,
           history = excluded.history, state = excluded.state, chosen = excluded.chosen, metrics = excluded.metrics, fault = '',
           added_by = excluded.added_by, added_at = excluded.added_at,
           changed_by = excluded.changed_by, changed_at = excluded.changed_at,
           served_at = excluded.served_at
     where encoder_version.state = 'retired'
        or encoder_version.state = 'candidate' and encoder_version.fault <> ''

-- name: move_encoder_version
-- Moves an encoder from one state to another; touches no row where it is in another state by now.
update encoder_version
   set state = %(state)s, fault = '', changed_by = %(by)s, changed_at = %(now)s,
       chosen = chosen or (%(state)s = 'serving' and %(chosen)s),
       served_at = case when %(state)s = 'serving' then %(now)s else served_at end
 where version = %(version)s and state = %(before)s

-- name: blame_encoder_version
-- Says why an encoder cannot be used, unless it is in another state by now; it is told once and not
-- at every look.
update encoder_version
   set fault = %(fault)s, state = %(state)s, changed_at = %(now)s
 where version = %(version)s and state = any(%(before)s)
   and (fault <> %(fault)s or state <> %(state)s)

-- name: vectors_by_version
-- How many posts and members have a vector of each encoder, and how many there are in all: for a
-- person who asks how far one is.
select version.version,
       (select count(*) from post_embedding
         where post_embedding.model_version = version.version) as posts,
       (select count(*) from member_embedding
         where member_embedding.model_version = version.version) as members,
       (select count(*) from post
          join member author
            on author.community_id = post.community_id and author.member_id = post.author_id
         where post.removed_at is null and author.removed_at is null) as posts_in_all,
       (select count(*) from (select distinct embedding.community_id, embedding.member_id
                                from member_embedding embedding
                                join member using (community_id, member_id)
                               where member.removed_at is null) as known) as members_in_all
  from encoder_version version

-- name: members_behind
-- Members whose vector of a version beside is missing or older than their profile, than what was
-- heard of them, or than the vector that serves; those without one first. The version that serves
-- hears of visits, and this one follows it.
select member.community_id, member.member_id, count(*) over () as waiting
  from member_embedding leader
  join member using (community_id, member_id)
  left join member_embedding beside
    on beside.community_id = leader.community_id and beside.member_id = leader.member_id
   and beside.model_version = %(model_version)s
 where leader.model_version = %(leading)s and member.removed_at is null
   and (beside.member_id is null or beside.source_version < member.system_version
        or beside.position < beside.stale_at or beside.position < leader.position
        or beside.position > pg_current_wal_insert_lsn())
 order by beside.made_at nulls first
 limit %(limit)s

-- name: vectors_of_version
-- The vectors of one version, a stretch of keys: to fill an index beside the one that serves.
select community_id, post_id, vector
  from post_embedding
 where model_version = %(model_version)s and (community_id, post_id) > (%(community_id)s, %(after)s)
 order by community_id, post_id
 limit %(limit)s

-- name: drop_vectors_of_posts
-- Some vectors of posts of encoders that are retired: few at a time, so that nobody waits for it.
delete from post_embedding
 where ctid in (
       select embedding.ctid
         from post_embedding embedding
         join encoder_version version on version.version = embedding.model_version
        where version.state = 'retired' and version.changed_at <= %(before)s
        limit %(limit)s)

-- name: drop_vectors_of_members
-- The same of members.
delete from member_embedding
 where ctid in (
       select embedding.ctid
         from member_embedding embedding
         join encoder_version version on version.version = embedding.model_version
        where version.state = 'retired' and version.changed_at <= %(before)s
        limit %(limit)s)
