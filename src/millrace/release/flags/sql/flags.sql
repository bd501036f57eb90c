-- name: lock_flags
-- One writer of flags at a time: a check of what flags say about one another then holds at the
-- commit. A process that hangs in the middle loses the lock soon, because others wait.
select set_config('idle_in_transaction_session_timeout', '15000', true),
       pg_advisory_xact_lock(hashtextextended('millrace.flags', 0))

-- name: flag
-- One flag as it stands.
select key, content, version, owner, created_at, changed_at from flag where key = %(key)s

-- name: hold_flag
-- One flag, which nobody else changes until the transaction ends.
select key, content, version, owner, created_at, changed_at
  from flag where key = %(key)s
   for update

-- name: flags
-- Flags by key, without what they share.
select key, content, version, owner, created_at, changed_at
  from flag
 where not starts_with(key, '$') and starts_with(key, %(prefix)s) and key > %(after)s
 order by key
 limit %(limit)s

-- name: every_flag
-- All flags and what they share: for the check of one against the others, and for a snapshot.
select key, content, version, owner, created_at, changed_at from flag order by key

-- name: count_flags
-- How many there are, for the bound; a change holds lock_flags, so none is made meanwhile.
select count(*) from flag

-- name: last_version
-- How far the versions of a key went, also where the flag is gone.
select coalesce(max(version), 0)::bigint from flag_change where flag_key = %(key)s

-- name: tell_change
-- One line of the trail; it comes before the change that it tells of.
insert into flag_change (change_id, flag_key, version, move, actor, reason, before, after, owner,
                         request_id, happened_at)
values (%(change_id)s, %(key)s, %(version)s, %(move)s, %(actor)s, %(reason)s, %(before)s, %(after)s,
        %(owner)s, %(request_id)s::bigint, %(now)s)

-- name: insert_flag
-- A new flag, or one that comes back.
insert into flag (key, content, version, owner, created_at, changed_at)
values (%(key)s, %(content)s, %(version)s, %(owner)s, %(now)s, %(now)s)

-- name: update_flag
-- The next version of a flag.
update flag
   set content = %(content)s, version = %(version)s, owner = %(owner)s, changed_at = %(now)s
 where key = %(key)s

-- name: delete_flag
-- Take a flag away; its trail stays.
delete from flag where key = %(key)s

-- name: history
-- The trail of one key, newest first.
select change_id as id, flag_key as key, version, move, actor, reason, before, after, owner,
       request_id, happened_at as at
  from flag_change
 where flag_key = %(key)s and (%(before)s::bigint is null or version < %(before)s)
 order by version desc
 limit %(limit)s

-- name: change_to
-- The line of the trail that made a version.
select change_id as id, flag_key as key, version, move, actor, reason, before, after, owner,
       request_id, happened_at as at
  from flag_change
 where flag_key = %(key)s and version = %(version)s
