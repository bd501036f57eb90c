-- name: history_shown
-- When a member was last shown each post, the newest first, as three arrays: one row of a thousand
-- is read faster than a thousand rows. Moments are microseconds since 1970.
select coalesce(array_agg(post_community_id), '{}') as communities,
       coalesce(array_agg(post_id), '{}') as posts, coalesce(array_agg(at), '{}') as moments
  from (select post_community_id, post_id,
               (extract(epoch from max(shown_at)) * 1000000)::bigint as at
          from impression
         where community_id = %(community_id)s and member_id = %(member_id)s
           and shown_at >= %(since)s
         group by post_community_id, post_id
         order by at desc
         limit %(limit)s) as newest

-- name: history_deeds
-- What a member did, the newest first, with whose post it was and since when a like stands; and
-- what was hidden or reported, however long ago.
(select engagement.happened_at as at, engagement.post_community_id, engagement.post_id,
        engagement.kind, post.author_id, reaction.created_at as liked_at
   from engagement
   left join post on post.community_id = engagement.post_community_id
                 and post.post_id = engagement.post_id
   left join reaction on reaction.community_id = engagement.community_id
                     and reaction.member_id = engagement.member_id
                     and reaction.post_community_id = engagement.post_community_id
                     and reaction.post_id = engagement.post_id
                     and reaction.kind = 'like' and engagement.kind = 'like'
  where engagement.community_id = %(community_id)s and engagement.member_id = %(member_id)s
  order by engagement.happened_at desc
  limit %(limit)s)
 union all
select null, post_community_id, post_id, 'hide', null, null
  from engagement
 where community_id = %(community_id)s and member_id = %(member_id)s
   and kind in ('hide', 'report')

-- name: authors_of_posts
-- Who wrote these posts, removed or not.
select post.community_id, post.post_id, post.author_id
  from unnest(%(communities)s::bigint[], %(posts)s::bigint[]) as asked (community_id, post_id)
  join post using (community_id, post_id)
