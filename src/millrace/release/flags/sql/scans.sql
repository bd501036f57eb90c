-- name: scans
-- The newest scan of one repository, or of each, with how many flags no place of it names.
select repository, scanned_at as at, files, actor, flags.searched as flags, flags.unnamed
  from flag_scan,
       lateral (select count(*) as searched, count(*) filter (where found.places = '0') as unnamed
                  from jsonb_each_text(flag_scan.places) as found (key, places)) as flags
 where %(repository)s::text is null or repository = %(repository)s
 order by repository

-- name: seen_in_code
-- What the newest scans say of one flag, or of each. A scan that is older than the flag may have
-- looked for another one of its name, and counts as one that did not look.
select flag.key, sum(found.places::bigint)::bigint as places, min(scan.scanned_at) as at,
       array_agg(scan.repository order by scan.scanned_at, scan.repository) as repositories,
       count(*) = (select count(*) from flag_scan) as whole
  from flag_scan as scan
 cross join lateral jsonb_each_text(scan.places) as found (key, places)
  join flag on flag.key = found.key and flag.created_at <= scan.scanned_at
 where %(key)s::text is null or flag.key = %(key)s
 group by flag.key

-- name: hold_scan
-- The scan of one repository, which nobody else changes until the transaction ends.
select scanned_at as at, places from flag_scan where repository = %(repository)s for update

-- name: count_scans
-- Of how many repositories a scan is kept.
select count(*) from flag_scan

-- name: flag_keys
-- The keys of all flags: a scan speaks of no others.
select key from flag

-- name: put_scan
-- The newest scan of a repository, in place of the one before it.
insert into flag_scan (repository, scanned_at, sent_at, actor, files, places)
values (%(repository)s, %(scanned_at)s, %(sent_at)s, %(actor)s, %(files)s, %(places)s)
    on conflict (repository) do update
       set scanned_at = excluded.scanned_at, sent_at = excluded.sent_at, actor = excluded.actor,
           files = excluded.files, places = excluded.places

-- name: forget_scan
-- A repository that is not searched any more.
delete from flag_scan where repository = %(repository)s
