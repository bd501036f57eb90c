-- name: authors_of_seen
-- Who wrote those of these posts that the viewer may see; planned once for lists of any length, as
-- post_views is.
select post.community_id, post.post_id, post.author_id
  from unnest((select %(communities)s::bigint[]), (select %(posts)s::bigint[]))
       as asked (community_id, post_id)
  join post_seen_by(%(viewer_role)s, %(viewer_community)s::bigint, %(viewer_member)s::bigint)
       as post using (community_id, post_id)

-- name: members_there
-- Which of these members exist.
select community_id, member_id
  from unnest((select %(communities)s::bigint[]), (select %(members)s::bigint[]))
       as asked (community_id, member_id)
  join member using (community_id, member_id)

-- name: positives
-- What a member liked to do, newest first: a backward read of one key range. A like counts while
-- its reaction stands.
select happened_at, post_community_id, post_id, kind, surface, position, dwell_ms, app_version
  from engagement
 where community_id = %(community_id)s and member_id = %(member_id)s
   and happened_at < coalesce(%(before)s::timestamptz, 'infinity')
   and kind = any(%(kinds)s::text[])
   and (kind <> 'like' or exists (
        select from reaction
         where reaction.community_id = engagement.community_id
           and reaction.member_id = engagement.member_id
           and reaction.post_community_id = engagement.post_community_id
           and reaction.post_id = engagement.post_id
           and reaction.created_at <= engagement.happened_at))
 order by happened_at desc, post_community_id desc, post_id desc, kind desc
 limit %(limit)s

-- name: seen_posts
-- What a member was shown or engaged with since a moment: two reads of key ranges.
select post_community_id, post_id
  from impression
 where community_id = %(community_id)s and member_id = %(member_id)s and shown_at >= %(since)s
 union
select post_community_id, post_id
  from engagement
 where community_id = %(community_id)s and member_id = %(member_id)s and happened_at >= %(since)s

-- name: hidden_posts
-- What a member hid or reported, from an index that holds nothing else.
select distinct post_community_id, post_id
  from engagement
 where community_id = %(community_id)s and member_id = %(member_id)s
   and kind in ('hide', 'report')

-- name: affinity
-- How often a member engaged positively with each author since a moment: one read of a key range.
select post.community_id, post.author_id, count(*)::float8 as engagements
  from engagement
  join post
    on post.community_id = engagement.post_community_id and post.post_id = engagement.post_id
 where engagement.community_id = %(community_id)s and engagement.member_id = %(member_id)s
   and engagement.happened_at >= %(since)s and engagement.kind = any(%(kinds)s::text[])
 group by post.community_id, post.author_id
