-- name: insert_engagements
-- Logs engagements in the order of their keys; returns those that are new.
insert into engagement (community_id, member_id, happened_at, post_community_id, post_id, kind,
                        surface, position, dwell_ms, app_version)
select community_id, member_id, happened_at, post_community_id, post_id, kind, surface, position,
       dwell_ms, app_version
  from jsonb_to_recordset(%(rows)s::jsonb) as line (
       community_id bigint, member_id bigint, happened_at timestamptz, post_community_id bigint,
       post_id bigint, kind text, surface text, position integer, dwell_ms integer,
       app_version text)
 order by community_id, member_id, happened_at, post_community_id, post_id, kind
    on conflict do nothing
returning community_id, member_id, happened_at as at, post_community_id, post_id, kind

-- name: count_engagements
-- Logs engagements that have no effect but a number, and moves the counters of their posts: in the
-- order of their keys, log before counters. Returns those that are new.
with made as (
    insert into engagement (community_id, member_id, happened_at, post_community_id, post_id, kind,
                            surface, position, dwell_ms, app_version)
    select community_id, member_id, happened_at, post_community_id, post_id, kind, surface,
           position, dwell_ms, app_version
      from jsonb_to_recordset(%(rows)s::jsonb) as line (
           community_id bigint, member_id bigint, happened_at timestamptz,
           post_community_id bigint, post_id bigint, kind text, surface text, position integer,
           dwell_ms integer, app_version text)
     order by community_id, member_id, happened_at, post_community_id, post_id, kind
        on conflict do nothing
    returning community_id, member_id, happened_at as at, post_community_id, post_id, kind
), moves as materialized (
    select post_community_id as community_id, post_id,
           count(*) filter (where kind = 'click') as clicks,
           count(*) filter (where kind = 'long_dwell') as long_dwells,
           count(*) filter (where kind = 'share') as shares,
           count(*) filter (where kind = 'hide') as hides
      from made
     where kind in ('click', 'long_dwell', 'share', 'hide')
     group by post_community_id, post_id
), locked as materialized (
    select counter.community_id, counter.post_id
      from post_counter counter
      join moves using (community_id, post_id)
     order by counter.community_id, counter.post_id
       for update of counter
), moved as (
    update post_counter counter
       set clicks = counter.clicks + moves.clicks,
           long_dwells = counter.long_dwells + moves.long_dwells,
           shares = counter.shares + moves.shares,
           hides = counter.hides + moves.hides
      from moves
      join locked using (community_id, post_id)
     where counter.community_id = moves.community_id and counter.post_id = moves.post_id
)
select * from made

-- name: insert_impressions
-- Logs impressions in the order of their keys; returns those that are new.
insert into impression (community_id, member_id, shown_at, post_community_id, post_id, surface,
                        position, served_feed_id, app_version)
select community_id, member_id, shown_at, post_community_id, post_id, surface, position,
       served_feed_id, app_version
  from jsonb_to_recordset(%(rows)s::jsonb) as line (
       community_id bigint, member_id bigint, shown_at timestamptz, post_community_id bigint,
       post_id bigint, surface text, position integer, served_feed_id bigint, app_version text)
 order by community_id, member_id, shown_at, post_community_id, post_id, surface
    on conflict do nothing
returning community_id, member_id, shown_at as at, post_community_id, post_id, 'view' as kind

-- name: logged_engagements
-- Which of these engagements are in the log, by key.
select line.index
  from jsonb_to_recordset(%(rows)s::jsonb) as line (
       index integer, community_id bigint, member_id bigint, happened_at timestamptz,
       post_community_id bigint, post_id bigint, kind text)
  join engagement using (community_id, member_id, happened_at, post_community_id, post_id, kind)

-- name: logged_impressions
-- Which of these impressions are in the log, by key.
select line.index
  from jsonb_to_recordset(%(rows)s::jsonb) as line (
       index integer, community_id bigint, member_id bigint, shown_at timestamptz,
       post_community_id bigint, post_id bigint, surface text)
  join impression using (community_id, member_id, shown_at, post_community_id, post_id, surface)
