-- name: ensure_partitions
-- Makes the daily partitions of served feeds from a day on; returns how many were missing.
select ensure_served_feed_days(%(first)s::date, %(days)s::integer)

-- name: drop_partitions
-- Drops the daily partitions that end before a day; returns how many.
select drop_served_feed_days(%(before)s::date)

-- name: insert_served
-- Logs one served feed, with the posts of its first page. It is committed before it is answered.
insert into served_feed (community_id, member_id, served_feed_id, served_at, surface, delivered,
                         post_communities, post_ids, record, variants)
values (%(community_id)s, %(member_id)s, %(served_feed_id)s, %(served_at)s, %(surface)s,
        %(delivered)s, %(post_communities)s::bigint[], %(post_ids)s::bigint[], %(record)s, %(variants)s)

-- name: served_by_id
-- One served feed of a member, in the partition of its day.
select served_feed_id, served_at, surface, delivered, record
  from served_feed
 where community_id = %(community_id)s and member_id = %(member_id)s
   and served_feed_id = %(served_feed_id)s
   and served_at >= %(day)s::timestamptz and served_at < %(day)s::timestamptz + interval '1 day'

-- name: served_lately
-- The newest served feeds of a member.
select served_feed_id, served_at, surface, delivered, record
  from served_feed
 where community_id = %(community_id)s and member_id = %(member_id)s and served_at >= %(since)s
 order by served_at desc, served_feed_id desc
 limit %(limit)s

-- name: delivered_feeds
-- The feeds that a member began since a moment, with the posts of each that were delivered.
select served_at, post_communities[:delivered] as post_communities,
       post_ids[:delivered] as post_ids
  from served_feed
 where community_id = %(community_id)s and member_id = %(member_id)s and served_at >= %(since)s

-- name: raise_delivered
-- Remembers how far a served feed was delivered, and with which posts; never less than before.
update served_feed
   set delivered = %(delivered)s, post_communities = %(post_communities)s::bigint[],
       post_ids = %(post_ids)s::bigint[]
 where community_id = %(community_id)s and member_id = %(member_id)s
   and served_feed_id = %(served_feed_id)s
   and served_at >= %(day)s::timestamptz and served_at < %(day)s::timestamptz + interval '1 day'
   and delivered < %(delivered)s
