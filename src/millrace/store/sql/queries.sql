-- name: position
-- Cluster, timeline and the end of what is written to disk, as numbers; only on a primary. A commit
-- that was acknowledged is on disk, and only what is there goes down the stream: the end of what is
-- merely inserted could wait for the next commit of somebody, and would be taken back by a crash.
-- Where commits are acknowledged before they are on disk, only that end covers them. The timeline is
-- read from the name of the file: the control file still says the old one after a promotion.
select (select system_identifier::text from pg_control_system()) as cluster,
       ('x' || left(pg_walfile_name(place.lsn), 8))::bit(32)::int as timeline,
       (place.lsn - '0/0'::pg_lsn)::bigint as lsn
  from (select case when current_setting('synchronous_commit') = 'off'
                    then pg_current_wal_insert_lsn() else pg_current_wal_flush_lsn() end as lsn) as place

-- name: all_seen
-- Whether the snapshot of a statement has all of these transactions behind it. The stream carries
-- 32 bits of a number that has 64: it is the one nearest to the newest.
select bool_and(pg_visible_in_snapshot(
           (newest + ((number - newest) %% 4294967296 + 6442450944) %% 4294967296 - 2147483648)
           ::text::xid8, pg_current_snapshot()))
  from unnest(%(numbers)s::bigint[]) as number,
       (select pg_snapshot_xmax(pg_current_snapshot())::text::bigint as newest) as now

-- name: snapshot_here
-- What the session's own snapshot sees, as text. One that was made from the log may name an end
-- that lies before its beginning, which its own type does not read: everything before the later of them is seen.
select pg_snapshot_xmin(now)::text || ':'
       || greatest(pg_snapshot_xmin(now)::text::bigint, pg_snapshot_xmax(now)::text::bigint)
       || ':' || split_part(now::text, ':', 3)
  from pg_current_snapshot() as now

-- name: snapshot_seen
-- Whether a new statement sees everything that another snapshot sees. One that was made from the
-- log may be an instant ahead: it sees a commit that is written while its transaction still runs.
select not exists (
       select from pg_snapshot_xip(now) as running where pg_visible_in_snapshot(running, other)
        union all
       select from generate_series(pg_snapshot_xmax(now)::text::bigint,
                                   pg_snapshot_xmax(other)::text::bigint - 1) as unknown
        where pg_visible_in_snapshot(unknown::text::xid8, other))
  from (select pg_current_snapshot() as now, %(snapshot)s::pg_snapshot as other) as both_of_them

-- name: server_facts
-- What we check before we work with a server that somebody else runs.
select pg_is_in_recovery() as standby, current_setting('server_encoding') as encoding

-- name: patience
-- A migration may run for longer than a request; it waits for another process at most ten minutes.
select set_config('statement_timeout', '0', true), set_config('lock_timeout', '600000', true)

-- name: create_migration_table
-- The bookkeeping of migrations; the only table that no migration makes.
create table if not exists migration (
    name text primary key, fingerprint text not null, applied_at timestamptz not null default now()
)

-- name: lock_migrations
-- One migrating process at a time; released at the end of the transaction.
select pg_advisory_xact_lock(7234871)

-- name: applied_migrations
-- What has been applied, with the fingerprint of the text that was.
select name, fingerprint from migration order by name

-- name: record_migration
-- Remember a migration that has just run.
insert into migration (name, fingerprint) values (%(name)s, %(fingerprint)s)
