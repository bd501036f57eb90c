-- name: split_feeds
-- How many feeds a flag decided something of, of those that were ranked between two moments.
select count(*)
  from served_feed
 where served_at >= %(since)s and served_at < %(until)s and variants ->> %(flag)s is not null

-- name: variant_outcomes
-- What members did with the feeds that were ranked between two moments, by the variant of one flag. A
-- post counts once per feed that showed it, an engagement within seven days of that feed. The sums
-- of squares are over members: they say how sure the share of engaged posts is, since what one
-- member does twice is not two opinions. Of many members a share is taken, by a hash that knows
-- nothing of variants: a million impressions take half a minute.
with served as materialized (
    select community_id, member_id, served_feed_id, served_at, variants ->> %(flag)s as variant
      from served_feed
     where served_at >= %(since)s and served_at < %(until)s
       and variants ->> %(flag)s is not null
       and (hashint8extended(member_id, community_id) & 1048575) < %(share)s::float8 * 1048576
), shown as materialized (
    select distinct served.variant, served.community_id, served.member_id, served.served_feed_id,
           served.served_at, impression.post_community_id, impression.post_id
      from served
      join impression
        on impression.community_id = served.community_id
       and impression.member_id = served.member_id
       and impression.shown_at >= served.served_at
       and impression.served_feed_id = served.served_feed_id
     where impression.shown_at >= %(since)s
       and impression.shown_at < %(until)s + interval '7 days'
), done as materialized (
    select distinct shown.variant, shown.community_id, shown.member_id, shown.served_feed_id,
           shown.post_community_id, shown.post_id, engagement.kind
      from shown
      join engagement
        on engagement.community_id = shown.community_id
       and engagement.member_id = shown.member_id
       and engagement.post_community_id = shown.post_community_id
       and engagement.post_id = shown.post_id
       and engagement.happened_at >= shown.served_at
       and engagement.happened_at < shown.served_at + interval '7 days'
     where engagement.happened_at >= %(since)s
       and engagement.happened_at < %(until)s + interval '7 days'
), by_kind as (
    select variant, jsonb_object_agg(kind, times) as kinds
      from (select variant, kind, count(*) as times from done group by variant, kind) as counted
     group by variant
), by_member as (
    select served.variant, count(*) as feeds, coalesce(max(sight.posts), 0) as posts,
           coalesce(max(deed.posts), 0) as engaged
      from served
      left join (select variant, community_id, member_id, count(*) as posts
                   from shown
                  group by variant, community_id, member_id) as sight
           using (variant, community_id, member_id)
      left join (select variant, community_id, member_id,
                        count(distinct (served_feed_id, post_community_id, post_id)) as posts
                   from done
                  where kind = any(%(positive)s::text[])
                  group by variant, community_id, member_id) as deed
           using (variant, community_id, member_id)
     group by served.variant, served.community_id, served.member_id
)
select variant, count(*) as members, sum(feeds)::bigint as feeds, sum(posts)::bigint as impressions,
       sum(engaged)::bigint as engaged, sum(posts::float8 ^ 2) as squares,
       sum(engaged::float8 ^ 2) as engaged_squares, sum(posts::float8 * engaged) as products,
       coalesce(kinds, '{}') as kinds
  from by_member
  left join by_kind using (variant)
 group by variant, kinds
 order by variant
