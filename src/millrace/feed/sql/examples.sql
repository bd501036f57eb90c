-- name: open_lines
-- The log of prompts in the order in which vectors were stored, as far as its things stand. All
-- times of these queries are microseconds since 1970.
declare example_lines no scroll cursor for
select (extract(epoch from line.stored_at) * 1000000)::bigint as at,
       (extract(epoch from line.made_at) * 1000000)::bigint as made_at,
       line.thing_kind, line.community_id, line.thing_id, line.model_version,
       (line.position - '0/0'::pg_lsn)::bigint as position, line.facts
  from prompt_line line
 where line.stored_at < %(until)s
   and (line.thing_kind = 'member' and exists (
            select from member
             where member.community_id = line.community_id and member.member_id = line.thing_id
               and member.removed_at is null)
        or line.thing_kind = 'post' and exists (
            select from post
              join member author
                on author.community_id = post.community_id and author.member_id = post.author_id
             where post.community_id = line.community_id and post.post_id = line.thing_id
               and post.removed_at is null and author.removed_at is null))
 order by line.stored_at, line.line_id

-- name: more_lines
-- The next lines.
fetch 2000 from example_lines

-- name: open_births
-- The posts that stand, in the order in which they came, with what was first known of each.
declare example_births no scroll cursor for
select (extract(epoch from post.created_at) * 1000000)::bigint as at, post.community_id,
       post.post_id, post.author_id, post.kind, post.title, left(post.text, %(characters)s) as text,
       post.topics, author.display_name as author_name, author.headline,
       community.name as community_name, first.facts as said
  from post
  join member author
    on author.community_id = post.community_id and author.member_id = post.author_id
  join community on community.community_id = post.community_id
  left join lateral (
       select facts
         from prompt_line line
        where line.community_id = post.community_id and line.thing_kind = 'post'
          and line.thing_id = post.post_id and line.stored_at < %(until)s
        order by line_id
        limit 1) as first on true
 where post.removed_at is null and author.removed_at is null and post.created_at < %(until)s
 order by post.created_at, post.community_id, post.post_id

-- name: more_births
-- The next posts.
fetch 2000 from example_births

-- name: open_deeds
-- What members were shown, did and whom they followed, in the order of time.
declare example_deeds no scroll cursor for
select (extract(epoch from happened) * 1000000)::bigint as at, community_id, member_id,
       other_community_id, other_id, deed
  from (select shown_at as happened, community_id, member_id,
               post_community_id as other_community_id, post_id as other_id, 'shown' as deed
          from impression
         where shown_at < %(until)s
         union all
        select happened_at, community_id, member_id, post_community_id, post_id, kind
          from engagement
         where happened_at < %(until)s
         union all
        select created_at, community_id, member_id, target_community_id, target_id, 'follow'
          from follow
         where created_at < %(until)s) as deeds
 order by happened, community_id, member_id, other_community_id, other_id, deed

-- name: more_deeds
-- The next of them.
fetch 5000 from example_deeds

-- name: open_served
-- Served feeds whose answers are complete, with what was shown of them and what came of that. Who
-- had no vector yet was given one while the request waited: then the moment is when that was stored.
declare example_served no scroll cursor for
with feed as (
    select feed.community_id, feed.member_id, feed.served_feed_id, feed.served_at,
           coalesce(first.at, feed.served_at) as at
      from served_feed feed
      join member
        on member.community_id = feed.community_id and member.member_id = feed.member_id
       and member.removed_at is null
      left join lateral (
           select min(stored_at) + interval '1 microsecond' as at
             from prompt_line line
            where line.community_id = feed.community_id and line.thing_kind = 'member'
              and line.thing_id = feed.member_id
           having min(stored_at) >= feed.served_at
              and min(stored_at) < feed.served_at + interval '1 minute') as first on true
     where feed.served_at < %(until)s)
select (extract(epoch from feed.at) * 1000000)::bigint as at,
       feed.community_id, feed.member_id, feed.served_feed_id, feed.served_at,
       (extract(epoch from feed.at + %(hours)s * interval '1 hour') * 1000000)::bigint
           as labelled_until,
       shown.post_communities, shown.post_ids, shown.positions, shown.engaged
  from feed
 cross join lateral (
       select array_agg(one.post_community_id order by one.place) as post_communities,
              array_agg(one.post_id order by one.place) as post_ids,
              array_agg(one.place order by one.place) as positions,
              array_agg(exists (
                  select from engagement
                   where engagement.community_id = feed.community_id
                     and engagement.member_id = feed.member_id
                     and engagement.happened_at >= feed.at
                     and engagement.happened_at < feed.at + %(hours)s * interval '1 hour'
                     and engagement.post_community_id = one.post_community_id
                     and engagement.post_id = one.post_id
                     and engagement.kind = any(%(kinds)s::text[])) order by one.place) as engaged
         from (select post_community_id, post_id, min(position) as place
                 from impression
                where impression.community_id = feed.community_id
                  and impression.member_id = feed.member_id
                  and impression.shown_at >= feed.served_at
                  and impression.shown_at < feed.at + %(hours)s * interval '1 hour'
                  and impression.served_feed_id = feed.served_feed_id
                group by post_community_id, post_id) as one) as shown
 where feed.at + %(hours)s * interval '1 hour' <= %(until)s
   and shown.post_ids is not null
 order by 1, feed.community_id, feed.member_id, feed.served_feed_id

-- name: more_served
-- The next served feeds.
fetch 500 from example_served

-- name: records_of_feeds
-- What was logged of these served feeds.
select feed.community_id, feed.member_id, feed.served_feed_id, feed.record
  from unnest(%(communities)s::bigint[], %(members)s::bigint[], %(feeds)s::bigint[],
              %(times)s::timestamptz[]) as asked (community_id, member_id, served_feed_id, served_at)
  join served_feed feed
 using (community_id, member_id, served_feed_id, served_at)

-- name: open_visits
-- Visits elsewhere, which an import brought: what a member was shown within half an hour, and what
-- came of it. Complete ones only.
declare example_visits no scroll cursor for
with seen as (
    select impression.*, date_bin('30 minutes', shown_at, 'epoch'::timestamptz) as half_hour
      from impression
      join member using (community_id, member_id)
     where served_feed_id is null and shown_at < %(until)s and member.removed_at is null),
placed as (
    select community_id, member_id, half_hour, post_community_id, post_id,
           min(position) as place, min(min(shown_at)) over visit as began
      from seen
     group by community_id, member_id, half_hour, post_community_id, post_id
    window visit as (partition by community_id, member_id, half_hour)),
told as (
    select placed.*, exists (
               select from engagement
                where engagement.community_id = placed.community_id
                  and engagement.member_id = placed.member_id
                  and engagement.happened_at >= placed.began
                  and engagement.happened_at < placed.began + %(hours)s * interval '1 hour'
                  and engagement.post_community_id = placed.post_community_id
                  and engagement.post_id = placed.post_id
                  and engagement.kind = any(%(kinds)s::text[])) as engaged
      from placed
     where began + %(hours)s * interval '1 hour' <= %(until)s)
select (extract(epoch from began) * 1000000)::bigint as at, community_id, member_id,
       array_agg(post_community_id order by place, post_id) as post_communities,
       array_agg(post_id order by place, post_id) as post_ids,
       array_agg(place order by place, post_id) as positions,
       array_agg(engaged order by place, post_id) as engaged,
       (extract(epoch from began + %(hours)s * interval '1 hour') * 1000000)::bigint
           as labelled_until
  from told
 group by community_id, member_id, half_hour, began
 order by began, community_id, member_id

-- name: more_visits
-- The next visits.
fetch 500 from example_visits

-- name: open_lone
-- The first engagement of a member with a post that no impression had gone before. It is an answer
-- at once, and waits like the others all the same: so moments are complete in the order of time.
declare example_lone no scroll cursor for
select (extract(epoch from min(happened_at)) * 1000000)::bigint as at, community_id, member_id,
       array[post_community_id] as post_communities, array[post_id] as post_ids,
       array[-1] as positions, array[true] as engaged,
       (extract(epoch from min(happened_at) + %(hours)s * interval '1 hour') * 1000000)::bigint
           as labelled_until, true as lone
  from engagement
  join member using (community_id, member_id)
 where kind = any(%(kinds)s::text[]) and happened_at < %(until)s and member.removed_at is null
   and not exists (
       select from impression
        where impression.community_id = engagement.community_id
          and impression.member_id = engagement.member_id
          and impression.shown_at <= engagement.happened_at
          and impression.post_community_id = engagement.post_community_id
          and impression.post_id = engagement.post_id)
 group by community_id, member_id, post_community_id, post_id
having min(happened_at) + %(hours)s * interval '1 hour' <= %(until)s
 order by min(happened_at), community_id, member_id, post_community_id, post_id

-- name: more_lone
-- The next of them.
fetch 2000 from example_lone

-- name: unripe_moments
-- How many served feeds and visits there are whose answers are not complete at the cut.
select (select count(*) from served_feed
         where served_at < %(until)s and served_at + %(hours)s * interval '1 hour' > %(until)s)
     + (select count(*)
          from (select min(shown_at) as began
                  from impression
                 where served_feed_id is null and shown_at < %(until)s
                   and shown_at > %(until)s::timestamptz - %(hours)s * interval '1 hour'
                       - interval '30 minutes'
                 group by community_id, member_id,
                          date_bin('30 minutes', shown_at, 'epoch'::timestamptz)) as visit
         where began + %(hours)s * interval '1 hour' > %(until)s)

-- name: first_profiles
-- What these members said of themselves, and what was first known of that.
select member.community_id, member.member_id, member.display_name, member.headline,
       left(member.about, %(characters)s) as about, member.skills, member.place, member.languages,
       first.facts as said
  from unnest(%(communities)s::bigint[], %(ids)s::bigint[]) as asked (community_id, member_id)
  join member using (community_id, member_id)
  left join lateral (
       select facts
         from prompt_line line
        where line.community_id = member.community_id and line.thing_kind = 'member'
          and line.thing_id = member.member_id and line.stored_at < %(until)s
        order by line_id
        limit 1) as first on true
 where member.removed_at is null
