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
