-- name: scales
-- The scales of one community.
select metric, cuts, made_at from percentile_scale where community_id = %(community_id)s

-- name: lock_scales
-- One refresh at a time; released at the end of the transaction.
select pg_advisory_xact_lock(hashtextextended('millrace.scales', 0))

-- name: communities_moved
-- Communities whose counters moved since their scales were made, or whose scales are old. One pass
-- over the counters, which is a small part of the work of making scales.
select counted.community_id
  from (select community_id, sum(system_version)::bigint as moves
          from (select community_id, system_version from post_counter
                 union all
                select community_id, system_version from member_counter) as counter
         group by community_id) as counted
  left join percentile_mark mark using (community_id)
 where mark.community_id is null or mark.moves <> counted.moves
    or mark.made_at < %(old)s::timestamptz
 order by counted.community_id

-- name: mark_scales
-- Remembers how far the counters had moved. Before the scales are made: what moves meanwhile is
-- found the next time.
insert into percentile_mark (community_id, moves, made_at)
select community_id, sum(system_version)::bigint, %(now)s
  from (select community_id, system_version from post_counter
         union all
        select community_id, system_version from member_counter) as counter
 where %(ids)s::bigint[] is null or community_id = any(%(ids)s::bigint[])
 group by community_id
    on conflict (community_id) do update set moves = excluded.moves, made_at = excluded.made_at

-- name: refresh_post_scales
-- Makes the scales of posts from those that stand. One pass over them for all metrics.
insert into percentile_scale (community_id, metric, cuts, samples, made_at)
select community_id, metric,
       percentile_disc((select array_agg(cut / 100.0::float8 order by cut)
                          from generate_series(1, 99) as cut)) within group (order by value),
       count(*), %(now)s
  from post
  join post_counter counter using (community_id, post_id)
 cross join lateral (values
       ('views', counter.views::float8),
       ('likes', counter.likes::float8),
       ('comments', counter.comments::float8),
       ('shares', counter.shares::float8),
       ('engagement_rate',
        (counter.clicks + counter.long_dwells + counter.likes + counter.comments + counter.shares)
        ::float8 / (counter.views + %(prior_views)s)),
       ('age_hours',
        (extract(epoch from %(now)s::timestamptz - post.created_at) / 3600)::float8)
       ) as sample (metric, value)
 where post.removed_at is null
   and (%(ids)s::bigint[] is null or community_id = any(%(ids)s::bigint[]))
 group by community_id, metric
    on conflict (community_id, metric) do update
       set cuts = excluded.cuts, samples = excluded.samples, made_at = excluded.made_at

-- name: refresh_author_scales
-- Makes the scales of authors from the members that stand.
insert into percentile_scale (community_id, metric, cuts, samples, made_at)
select community_id, metric,
       percentile_disc((select array_agg(cut / 100.0::float8 order by cut)
                          from generate_series(1, 99) as cut)) within group (order by value),
       count(*), %(now)s
  from member
  join member_counter counter using (community_id, member_id)
 cross join lateral (values
       ('author_followers', counter.followers::float8),
       ('author_views', counter.views::float8),
       ('author_posts', counter.posts::float8)
       ) as sample (metric, value)
 where member.removed_at is null
   and (%(ids)s::bigint[] is null or community_id = any(%(ids)s::bigint[]))
 group by community_id, metric
    on conflict (community_id, metric) do update
       set cuts = excluded.cuts, samples = excluded.samples, made_at = excluded.made_at
