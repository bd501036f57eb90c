-- name: database_bytes
-- How much disk the database takes.
select pg_database_size(current_database())

-- name: largest_tables
-- The tables that take most of it, with their indexes and large values; partitions count as one.
select coalesce(parent.relname, class.relname)::text as name,
       sum(pg_total_relation_size(class.oid))::bigint as bytes
  from pg_class class
  join pg_namespace namespace on namespace.oid = class.relnamespace
  left join pg_inherits on pg_inherits.inhrelid = class.oid
  left join pg_class parent on parent.oid = pg_inherits.inhparent
 where class.relkind = 'r' and namespace.nspname not in ('pg_catalog', 'information_schema')
 group by 1
 order by 2 desc, 1
 limit %(limit)s

-- name: server_processes
-- The processes of the server that work for somebody; its own helpers among them.
select pid from pg_stat_activity
