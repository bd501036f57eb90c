-- name: server_state
-- What the server is, whether its log can feed the river, and how much it holds.
select current_setting('server_version')     as version,
       current_setting('wal_level')          as wal_level,
       pg_database_size(current_database())  as size_bytes,
       to_regclass('migration') is not null  as migrated

-- name: applied
-- The migrations that the database went through.
select name, fingerprint from migration

-- name: content_state
-- How much there is, how much of it has a vector of any version, and the age of the oldest scale.
select (select count(*) from community)                         as communities,
       (select count(*) from member where removed_at is null)   as members,
       (select count(*) from post where removed_at is null)     as posts,
       (select count(*) from post p
         where p.removed_at is null
           and exists (select from post_embedding e
                        where e.community_id = p.community_id and e.post_id = p.post_id)) as vectors,
       (select min(made_at) from percentile_mark)               as oldest_scale_at
