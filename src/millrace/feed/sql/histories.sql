-- name: history
-- What a member was shown, did and opposed, the newest first, in one row of columns: whole numbers
-- of eight bytes one after the other, moments as PostgreSQL has them, and words. A thousand rows
-- would be taken apart one by one. Without an author or a like that stands the number is the
-- smallest. What was hidden or reported comes however long ago it was.
select shown.*, done.*, opposed.*
  from (select coalesce(string_agg(int8send(post_community_id), ''), '') as shown_communities,
               coalesce(string_agg(int8send(post_id), ''), '') as shown_posts,
               coalesce(string_agg(timestamptz_send(at), ''), '') as shown_at
          from (select post_community_id, post_id, max(shown_at) as at
                  from impression
                 where community_id = %(community_id)s and member_id = %(member_id)s
                   and shown_at >= %(since)s
                 group by post_community_id, post_id
                 order by at desc
                 limit %(shown_max)s) as newest) as shown
 cross join (
       select coalesce(string_agg(timestamptz_send(happened_at), ''), '') as done_at,
              coalesce(string_agg(int8send(post_community_id), ''), '') as done_communities,
              coalesce(string_agg(int8send(post_id), ''), '') as done_posts,
              coalesce(string_agg(kind, ' '), '') as done_kinds,
              coalesce(string_agg(coalesce(int8send(author_id), '\x8000000000000000'), ''), '')
                  as done_authors,
              coalesce(string_agg(coalesce(timestamptz_send(liked_at), '\x8000000000000000'), ''),
                       '') as liked_at
         from (select engagement.happened_at, engagement.post_community_id, engagement.post_id,
                      engagement.kind, post.author_id, reaction.created_at as liked_at
                 from engagement
                 left join post on post.community_id = engagement.post_community_id
                               and post.post_id = engagement.post_id
                 left join reaction on reaction.community_id = engagement.community_id
                                   and reaction.member_id = engagement.member_id
                                   and reaction.post_community_id = engagement.post_community_id
                                   and reaction.post_id = engagement.post_id
                                   and reaction.kind = 'like' and engagement.kind = 'like'
                where engagement.community_id = %(community_id)s
                  and engagement.member_id = %(member_id)s
                order by engagement.happened_at desc
                limit %(deeds_max)s) as newest) as done
 cross join (
       select coalesce(string_agg(int8send(post_community_id), ''), '') as opposed_communities,
              coalesce(string_agg(int8send(post_id), ''), '') as opposed_posts
         from engagement
        where community_id = %(community_id)s and member_id = %(member_id)s
          and kind in ('hide', 'report')) as opposed

-- name: authors_of_posts
-- Who wrote these posts, removed or not.
select post.community_id, post.post_id, post.author_id
  from unnest(%(communities)s::bigint[], %(posts)s::bigint[]) as asked (community_id, post_id)
  join post using (community_id, post_id)
