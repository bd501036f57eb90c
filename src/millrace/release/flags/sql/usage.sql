-- name: add_usage
-- Add what a process has counted since the last time. In the order of the key, so that two processes
-- wait for each other and never both.
insert into flag_usage (flag_key, day, variant, evaluations, errors, last_at)
select line.flag_key, line.day, line.variant, line.evaluations, line.errors, line.last_at
  from jsonb_to_recordset(%(lines)s::jsonb) as line (
       flag_key text, day date, variant text, evaluations bigint, errors bigint, last_at timestamptz)
 order by line.flag_key, line.day, line.variant
    on conflict (flag_key, day, variant) do update
       set evaluations = flag_usage.evaluations + excluded.evaluations,
           errors = flag_usage.errors + excluded.errors,
           last_at = greatest(flag_usage.last_at, excluded.last_at)

-- name: usage
-- How often one flag was evaluated, or each, newest day first.
select flag_key as key, variant, day, evaluations, errors, last_at
  from flag_usage
 where %(key)s::text is null or flag_key = %(key)s
 order by day desc, flag_key, variant

-- name: last_evaluated
-- When each flag was last evaluated, in any process.
select flag_key as key, max(last_at) as at from flag_usage group by flag_key

-- name: forget_usage
-- Days that are too long ago.
delete from flag_usage where day < %(before)s

-- name: note_apps
-- With which versions members were seen; members that are not there, or not any more, are left out, and a
-- note that says nothing new for an hour is not written.
insert into member_app (community_id, member_id, track, version, seen_at)
select line.community_id, line.member_id, line.track, line.version, line.seen_at
  from jsonb_to_recordset(%(lines)s::jsonb) as line (
       community_id bigint, member_id bigint, track text, version text, seen_at timestamptz)
  join member using (community_id, member_id)
 where member.removed_at is null
 order by line.community_id, line.member_id, line.track
    on conflict (community_id, member_id, track) do update
       set version = excluded.version, seen_at = excluded.seen_at
     where member_app.seen_at <= excluded.seen_at
       and (member_app.version <> excluded.version
            or member_app.seen_at < excluded.seen_at - interval '55 minutes')

-- name: hold_apps
-- Let no note come until the transaction ends: one that was on its way would outlive its member. Row
-- locks of members would do, and hold up whoever counts for them.
lock table member_app in share row exclusive mode

-- name: forget_apps
-- Take the versions of a member who is removed.
delete from member_app where community_id = %(community_id)s and member_id = %(member_id)s

-- name: versions_in_use
-- How many members were seen with each version since a moment, in one market or everywhere.
select app.version, count(*) as members
  from member_app app
  join community using (community_id)
 where app.track = %(track)s and app.seen_at >= %(since)s
   and (%(country)s = '' or community.country = %(country)s)
   and (%(community_id)s::bigint is null or app.community_id = %(community_id)s)
 group by app.version
