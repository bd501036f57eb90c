-- name: served_to_fit
-- Served feeds of which the member had impressions, newest first.
select community_id, member_id, served_feed_id, served_at, record
  from served_feed
 where served_at >= %(since)s
   and exists (
       select from impression
        where impression.community_id = served_feed.community_id
          and impression.member_id = served_feed.member_id
          and impression.shown_at >= served_feed.served_at
          and impression.served_feed_id = served_feed.served_feed_id)
 order by served_at desc, served_feed_id desc
 limit %(limit)s

-- name: outcomes
-- What members did with the posts that these feeds showed them.
select impression.community_id, impression.member_id, impression.served_feed_id,
       impression.post_community_id, impression.post_id, min(impression.position) as position,
       array(select distinct engagement.kind
               from engagement
              where engagement.community_id = impression.community_id
                and engagement.member_id = impression.member_id
                and engagement.happened_at >= served.at
                and engagement.happened_at < served.at + interval '7 days'
                and engagement.post_community_id = impression.post_community_id
                and engagement.post_id = impression.post_id) as kinds
  from unnest(%(communities)s::bigint[], %(members)s::bigint[], %(feeds)s::bigint[],
              %(times)s::timestamptz[]) as served (community_id, member_id, feed, at)
  join impression
    on impression.community_id = served.community_id and impression.member_id = served.member_id
   and impression.shown_at >= served.at and impression.served_feed_id = served.feed
 group by impression.community_id, impression.member_id, impression.served_feed_id,
          impression.post_community_id, impression.post_id, served.at

-- name: past_engagements
-- The newest engagements, and whether the feed had shown the post.
select community_id, member_id, post_community_id, post_id, kind, happened_at,
       exists (
           select from impression
            where impression.community_id = engagement.community_id
              and impression.member_id = engagement.member_id
              and impression.post_community_id = engagement.post_community_id
              and impression.post_id = engagement.post_id) as shown
  from engagement
 order by happened_at desc
 limit %(limit)s

-- name: past_posts
-- The newest standing posts.
select community_id, post_id, author_id, kind, topics, language, created_at
  from post
 where removed_at is null
 order by created_at desc
 limit %(limit)s

-- name: past_follows
-- The follows that stand.
select community_id, member_id, target_community_id, target_id, created_at
  from follow
 limit %(limit)s

-- name: post_vectors
-- The vectors of these posts.
select community_id, post_id, vector
  from post_embedding
  join unnest(%(communities)s::bigint[], %(ids)s::bigint[]) as asked (community_id, post_id)
       using (community_id, post_id)
 where model_version = %(model_version)s

-- name: past_positives
-- What members liked to do before a moment each, newest first, as far as they still may see it:
-- the `positives` of the community's activity for many moments in one statement. What they had done
-- one of `against` with by then is left out.
select asked.number, liked.post_community_id, liked.post_id, liked.happened_at
  from unnest(%(communities)s::bigint[], %(members)s::bigint[], %(times)s::timestamptz[])
       with ordinality as asked (community_id, member_id, moment, number)
 cross join lateral (
       select happened_at, post_community_id, post_id, kind
         from engagement
        where engagement.community_id = asked.community_id
          and engagement.member_id = asked.member_id
          and engagement.happened_at < asked.moment
          and engagement.kind = any(%(kinds)s::text[])
          and (engagement.kind <> 'like' or exists (
               select from reaction
                where reaction.community_id = engagement.community_id
                  and reaction.member_id = engagement.member_id
                  and reaction.post_community_id = engagement.post_community_id
                  and reaction.post_id = engagement.post_id
                  and reaction.created_at <= engagement.happened_at))
          and not exists (
              select from engagement other
               where other.community_id = asked.community_id
                 and other.member_id = asked.member_id
                 and other.happened_at < asked.moment
                 and other.kind = any(%(against)s::text[])
                 and other.post_community_id = engagement.post_community_id
                 and other.post_id = engagement.post_id)
        order by happened_at desc, post_community_id desc, post_id desc, kind desc
        limit %(limit)s) as liked
  join lateral post_seen_by('member', asked.community_id, asked.member_id) as post
    on post.community_id = liked.post_community_id and post.post_id = liked.post_id
 order by asked.number, liked.happened_at desc, liked.post_community_id desc,
          liked.post_id desc, liked.kind desc

-- name: past_visits
-- Some visits to feeds that were not served here: what a member was shown within half an hour, and
-- what they did with it. Visits with engagement are few and say most, so two of three are of them;
-- `share` is how many of its kind were taken. Of each kind they are drawn evenly, by a hash of who
-- and when.
with visit as (
    select community_id, member_id,
           date_bin('30 minutes', shown_at, 'epoch'::timestamptz) as half_hour,
           min(shown_at) as began
      from impression
     where served_feed_id is null
     group by 1, 2, 3),
told as (
    select visit.*, exists (
               select from engagement
                where engagement.community_id = visit.community_id
                  and engagement.member_id = visit.member_id
                  and engagement.happened_at >= visit.began
                  and engagement.happened_at < visit.half_hour + interval '1 hour'
                  and engagement.kind = any(%(kinds)s::text[])) as engaged
      from visit),
placed as (
    select told.*,
           row_number() over (
               partition by engaged
               order by hashint8extended(member_id, extract(epoch from began)::bigint)) as place,
           count(*) over (partition by engaged) as many,
           case when engaged then %(limit)s * 2 / 3 else %(limit)s - %(limit)s * 2 / 3 end as most
      from told)
select visit.community_id, visit.member_id, visit.began, impression.post_community_id,
       impression.post_id, min(impression.position) as position,
       least(1.0, visit.most::float8 / visit.many) as share,
       array(select distinct engagement.kind
               from engagement
              where engagement.community_id = visit.community_id
                and engagement.member_id = visit.member_id
                and engagement.happened_at >= visit.began
                and engagement.happened_at < visit.began + interval '7 days'
                and engagement.post_community_id = impression.post_community_id
                and engagement.post_id = impression.post_id) as kinds
  from placed visit
  join impression
    on impression.community_id = visit.community_id and impression.member_id = visit.member_id
   and impression.shown_at >= visit.half_hour
   and impression.shown_at < visit.half_hour + interval '30 minutes'
   and impression.served_feed_id is null
 where visit.place <= visit.most
 group by visit.community_id, visit.member_id, visit.began, impression.post_community_id,
          impression.post_id, visit.most, visit.many
 order by visit.began, visit.community_id, visit.member_id, position, impression.post_id
