-- name: river_facts
-- What the change stream needs of the server, and has to name where it is missing.
select current_setting('wal_level')                                        as wal_level,
       current_user::text                                                  as role,
       current_setting('max_replication_slots')::int                       as slots_max,
       (select count(*) from pg_replication_slots)                         as slots,
       current_setting('max_wal_senders')::int                             as senders_max,
       exists (select from pg_publication where pubname = %(publication)s)    as published,
       (select oid from pg_database where datname = current_database())::bigint as database

-- name: river_keys
-- The tables of a publication, with the columns of their primary keys in the key's own order.
select c.relname::text as relation,
       coalesce(array_agg(a.attname::text order by k.place) filter (where a.attname is not null),
                '{}') as columns
  from pg_publication_tables t
  join pg_namespace n on n.nspname = t.schemaname
  join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
  left join pg_index i on i.indrelid = c.oid and i.indisprimary
  left join lateral unnest(i.indkey) with ordinality as k (number, place) on true
  left join pg_attribute a on a.attrelid = c.oid and a.attnum = k.number
 where t.pubname = %(publication)s
 group by c.relname

-- name: import_snapshot
-- Read the database as of the moment when a slot was made; the first statement of a transaction.
set transaction snapshot %(snapshot)s

-- name: river_nudge
-- A commit that changes nothing: it makes the server write out and send what lies before it.
select pg_logical_emit_message(true, 'millrace', '')

-- name: river_look
-- Whether the server still serves; it changes and reads nothing.
select 1

-- name: river_lead
-- One process at a time may use a named slot. Asked for, not waited for, so that nobody blocks.
select pg_try_advisory_lock(%(key)s) as leads

-- name: river_slot
-- One slot: whether it is there and can still be read from.
select active, coalesce(wal_status, '') = 'lost' as is_lost,
       (confirmed_flush_lsn - '0/0'::pg_lsn)::bigint as confirmed
  from pg_replication_slots
 where slot_name = %(slot)s

-- name: river_keep_slot
-- Make a named slot from a temporary one, at its place: so a named slot stands only where `begin`
-- has ended, whatever was killed in between.
select pg_copy_logical_replication_slot(%(temporary)s, %(slot)s, false)

-- name: river_drop_slot
-- Give up a slot, and with it the log that it holds; nothing where there is none.
select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = %(slot)s

-- name: river_slots
-- Our slots on this database, and how much log each keeps the server from throwing away.
select slot_name::text as name, active, temporary, coalesce(wal_status, 'unknown') as wal_status,
       greatest(0, coalesce(pg_current_wal_flush_lsn() - restart_lsn, 0))::bigint as held_bytes
  from pg_replication_slots
 where database = current_database() and starts_with(slot_name, 'millrace_')
 order by slot_name

-- name: river_room
-- How many slots and senders the server has, and how many are taken, by whomever.
select current_setting('max_replication_slots')::int as slots_max,
       (select count(*)::int from pg_replication_slots) as slots,
       current_setting('max_wal_senders')::int as senders_max,
       (select count(*)::int from pg_stat_replication) as senders

-- name: river_cap
-- How much log a slot may hold, in MiB; -1 where the server sets no limit.
select setting::bigint from pg_settings where name = 'max_slot_wal_keep_size'
