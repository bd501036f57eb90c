-- name: hold_post_counters
-- Holds a stretch of the counters of posts, in the order of their keys.
select community_id, post_id as id
  from post_counter
 where (community_id, post_id) > (%(community_id)s, %(id)s)
 order by community_id, post_id
 limit %(limit)s
   for update

-- name: hold_member_counters
-- Holds a stretch of the counters of members, in the order of their keys.
select community_id, member_id as id
  from member_counter
 where (community_id, member_id) > (%(community_id)s, %(id)s)
 order by community_id, member_id
 limit %(limit)s
   for update

-- name: recount_posts
-- Makes the counters of these posts from the rows. Views are never lowered: an import may have
-- brought some for which there are no rows.
with asked as materialized (
    select *
      from unnest(%(communities)s::bigint[], %(ids)s::bigint[]) as asked (community_id, post_id)
), liked as (
    select post_community_id, post_id, count(*) as likes
      from reaction where kind = 'like' group by post_community_id, post_id
), answered as (
    select post_community_id, post_id, count(*) as comments
      from comment where removed_at is null and hidden_at is null
     group by post_community_id, post_id
), acted as (
    select post_community_id, post_id,
           count(*) filter (where kind = 'click') as clicks,
           count(*) filter (where kind = 'long_dwell') as long_dwells,
           count(*) filter (where kind = 'share') as shares,
           count(*) filter (where kind = 'hide') as hides,
           count(*) filter (where kind = 'report') as reports
      from engagement group by post_community_id, post_id
), shown as (
    select post_community_id, post_id, count(*) as views
      from impression group by post_community_id, post_id
), counted as (
    select asked.community_id, asked.post_id, coalesce(likes, 0) as likes,
           coalesce(comments, 0) as comments, coalesce(clicks, 0) as clicks,
           coalesce(long_dwells, 0) as long_dwells, coalesce(shares, 0) as shares,
           coalesce(hides, 0) as hides, coalesce(reports, 0) as reports,
           coalesce(views, 0) as views
      from asked
      left join liked
        on liked.post_community_id = asked.community_id and liked.post_id = asked.post_id
      left join answered
        on answered.post_community_id = asked.community_id and answered.post_id = asked.post_id
      left join acted
        on acted.post_community_id = asked.community_id and acted.post_id = asked.post_id
      left join shown
        on shown.post_community_id = asked.community_id and shown.post_id = asked.post_id
)
update post_counter counter
   set likes = counted.likes, comments = counted.comments, clicks = counted.clicks,
       long_dwells = counted.long_dwells, shares = counted.shares, hides = counted.hides,
       reports = counted.reports, views = greatest(counter.views, counted.views)
  from counted
 where counter.community_id = counted.community_id and counter.post_id = counted.post_id
   and ((counter.likes, counter.comments, counter.clicks, counter.long_dwells, counter.shares,
         counter.hides, counter.reports)
        is distinct from
        (counted.likes, counted.comments, counted.clicks, counted.long_dwells, counted.shares,
         counted.hides, counted.reports)
        or counter.views < counted.views)

-- name: recount_members
-- Makes the counters of these members from the rows; views and likes are those of their posts.
with asked as materialized (
    select *
      from unnest(%(communities)s::bigint[], %(ids)s::bigint[]) as asked (community_id, member_id)
), followed as (
    select target_community_id, target_id, count(*) as followers
      from follow group by target_community_id, target_id
), wrote as (
    select post.community_id, post.author_id,
           count(*) filter (where removed_at is null and hidden_at is null) as posts,
           sum(views)::bigint as views, sum(likes)::bigint as likes
      from post
      join post_counter using (community_id, post_id)
     group by post.community_id, post.author_id
), counted as (
    select asked.community_id, asked.member_id, coalesce(followers, 0) as followers,
           coalesce(posts, 0) as posts, coalesce(views, 0) as views, coalesce(likes, 0) as likes
      from asked
      left join followed
        on followed.target_community_id = asked.community_id
       and followed.target_id = asked.member_id
      left join wrote
        on wrote.community_id = asked.community_id and wrote.author_id = asked.member_id
)
update member_counter counter
   set followers = counted.followers, posts = counted.posts, views = counted.views,
       likes = counted.likes
  from counted
 where counter.community_id = counted.community_id and counter.member_id = counted.member_id
   and (counter.followers, counter.posts, counter.views, counter.likes)
       is distinct from (counted.followers, counted.posts, counted.views, counted.likes)

-- name: post_counters_differ
-- Counters of posts that are not what the rows say: the first few, and how many in all. Of views
-- the rows only say the least.
with liked as (
    select post_community_id, post_id, count(*) as likes
      from reaction where kind = 'like' group by post_community_id, post_id
), answered as (
    select post_community_id, post_id, count(*) as comments
      from comment where removed_at is null and hidden_at is null
     group by post_community_id, post_id
), acted as (
    select post_community_id, post_id,
           count(*) filter (where kind = 'click') as clicks,
           count(*) filter (where kind = 'long_dwell') as long_dwells,
           count(*) filter (where kind = 'share') as shares,
           count(*) filter (where kind = 'hide') as hides,
           count(*) filter (where kind = 'report') as reports
      from engagement group by post_community_id, post_id
), shown as (
    select post_community_id, post_id, count(*) as views
      from impression group by post_community_id, post_id
)
select post.community_id, post.post_id as id, field, coalesce(live::text, 'none') as live,
       counted::text as rebuilt, count(*) over () as differing
  from post
  left join post_counter counter
    on counter.community_id = post.community_id and counter.post_id = post.post_id
  left join liked
    on liked.post_community_id = post.community_id and liked.post_id = post.post_id
  left join answered
    on answered.post_community_id = post.community_id and answered.post_id = post.post_id
  left join acted
    on acted.post_community_id = post.community_id and acted.post_id = post.post_id
  left join shown
    on shown.post_community_id = post.community_id and shown.post_id = post.post_id
 cross join lateral (values
       ('likes', counter.likes, coalesce(liked.likes, 0)),
       ('comments', counter.comments, coalesce(answered.comments, 0)),
       ('clicks', counter.clicks, coalesce(acted.clicks, 0)),
       ('long_dwells', counter.long_dwells, coalesce(acted.long_dwells, 0)),
       ('shares', counter.shares, coalesce(acted.shares, 0)),
       ('hides', counter.hides, coalesce(acted.hides, 0)),
       ('reports', counter.reports, coalesce(acted.reports, 0)),
       ('views', counter.views, greatest(counter.views, coalesce(shown.views, 0)))
       ) as pair (field, live, counted)
 where live is distinct from counted
 order by 1, 2, 3
 limit 10

-- name: member_counters_differ
-- Counters of members that are not what the rows say: the first few, and how many in all.
with followed as (
    select target_community_id, target_id, count(*) as followers
      from follow group by target_community_id, target_id
), wrote as (
    select post.community_id, post.author_id,
           count(*) filter (where removed_at is null and hidden_at is null) as posts,
           sum(views)::bigint as views, sum(likes)::bigint as likes
      from post
      join post_counter using (community_id, post_id)
     group by post.community_id, post.author_id
)
select member.community_id, member.member_id as id, field, coalesce(live::text, 'none') as live,
       counted::text as rebuilt, count(*) over () as differing
  from member
  left join member_counter counter
    on counter.community_id = member.community_id and counter.member_id = member.member_id
  left join followed
    on followed.target_community_id = member.community_id
   and followed.target_id = member.member_id
  left join wrote
    on wrote.community_id = member.community_id and wrote.author_id = member.member_id
 cross join lateral (values
       ('followers', counter.followers, coalesce(followed.followers, 0)),
       ('posts', counter.posts, coalesce(wrote.posts, 0)),
       ('views', counter.views, coalesce(wrote.views, 0)),
       ('likes', counter.likes, coalesce(wrote.likes, 0))
       ) as pair (field, live, counted)
 where live is distinct from counted
 order by 1, 2, 3
 limit 10

-- name: counted_rows
-- How many posts, members and scales there are to compare.
select (select count(*) from post) as posts, (select count(*) from member) as members,
       (select count(*) from percentile_scale) as scales

-- name: scales_differ
-- Scales that are not what the tables say. Only of communities whose numbers have not moved since,
-- and of whose members nobody left since: the others are made again by and by.
with still as materialized (
    select mark.community_id, mark.made_at
      from percentile_mark mark
      join (select community_id, sum(system_version)::bigint as moves
              from (select community_id, system_version from post_counter
                     union all
                    select community_id, system_version from member_counter) as counter
             group by community_id) as counted
        on counted.community_id = mark.community_id and counted.moves = mark.moves
     where not exists (
           select from member
            where member.community_id = mark.community_id and member.removed_at >= mark.made_at)
), sample as (
    select post.community_id, metric, value
      from still
      join post using (community_id)
      join post_counter counter using (community_id, post_id)
     cross join lateral (values
           ('views', counter.views::float8),
           ('likes', counter.likes::float8),
           ('comments', counter.comments::float8),
           ('shares', counter.shares::float8),
           ('engagement_rate',
            (counter.clicks + counter.long_dwells + counter.likes + counter.comments
             + counter.shares)::float8 / (counter.views + %(prior_views)s)),
           ('age_hours', (extract(epoch from still.made_at - post.created_at) / 3600)::float8)
           ) as line (metric, value)
     where post.removed_at is null
     union all
    select member.community_id, metric, value
      from still
      join member using (community_id)
      join member_counter counter using (community_id, member_id)
     cross join lateral (values
           ('author_followers', counter.followers::float8),
           ('author_views', counter.views::float8),
           ('author_posts', counter.posts::float8)
           ) as line (metric, value)
     where member.removed_at is null
), made as (
    select community_id, metric,
           percentile_disc((select array_agg(cut / 100.0::float8 order by cut)
                              from generate_series(1, 99) as cut))
               within group (order by value) as cuts
      from sample
     group by community_id, metric
)
select made.community_id, 0 as id, made.metric as field,
       coalesce(array_to_string(scale.cuts, ' '), 'none') as live,
       array_to_string(made.cuts, ' ') as rebuilt, count(*) over () as differing
  from made
  left join percentile_scale scale using (community_id, metric)
 where scale.cuts is distinct from made.cuts
 order by 1, 3
 limit 10

-- name: scales_still
-- How many scales that comparison is about.
select count(*)
  from percentile_scale
  join percentile_mark mark using (community_id)
  join (select community_id, sum(system_version)::bigint as moves
          from (select community_id, system_version from post_counter
                 union all
                select community_id, system_version from member_counter) as counter
         group by community_id) as counted
    on counted.community_id = mark.community_id and counted.moves = mark.moves

-- name: drop_scales
-- Throws all scales away.
delete from percentile_scale

-- name: drop_marks
-- And what they were made from.
delete from percentile_mark
