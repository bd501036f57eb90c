-- name: found_posts
-- The best of the newest posts that match and that the viewer may see. The index answers for the
-- words in any language; then each post is asked in its own. Of many matches the newest are ranked.
-- The bonus of new posts has a floor: of a post of decades ago its power would be an underflow.
with asked as materialized (
    select words_wanted_anywhere(%(words)s, %(head)s, %(tail)s) as wanted
), found as materialized (
    select post.community_id, post.post_id, post.created_at,
           search_config(post.language) as config,
           post_words(post.language, post.title, post.topics, post.text) as words
      from post_seen_by(%(viewer_role)s, %(viewer_community)s::bigint, %(viewer_member)s::bigint)
           as post
     where post_words(post.language, post.title, post.topics, post.text)
           @@ (select wanted from asked)
       and post.removed_at is null
       and (post.hidden_at is null
            or (post.community_id, post.author_id)
               = (%(viewer_community)s::bigint, %(viewer_member)s::bigint))
       and (%(community_id)s::bigint is null or post.community_id = %(community_id)s::bigint)
       and (%(author_id)s::bigint is null
            or (post.community_id, post.author_id)
               = (%(author_community)s::bigint, %(author_id)s::bigint))
       and (%(kind)s::text is null or post.kind = %(kind)s::text)
       and (%(topic)s::text is null or post.topics @> array[%(topic)s::text])
       and (%(since)s::timestamptz is null or post.created_at >= %(since)s::timestamptz)
       and post.created_at <= %(asked_at)s::timestamptz
     order by post.post_id desc
     limit %(ranked_max)s
)
select community_id, post_id as id,
       (1e6 * ts_rank_cd(words, words_wanted(config, %(words)s, %(head)s, %(tail)s), 1)
            * (1 + exp(greatest(extract(epoch from created_at - %(asked_at)s::timestamptz)
                                / %(fresh_seconds)s, -100))))::bigint as score
  from found
 where words @@ words_wanted(config, %(words)s, %(head)s, %(tail)s)
 order by score desc, id desc, community_id desc

-- name: marked_posts
-- The titles and the best passages of posts, with marks around the words that match.
select post.community_id, post.post_id,
       ts_headline(config, translate(post.title, %(marks)s, ''), wanted,
                   'HighlightAll=true, StartSel=' || left(%(marks)s, 1)
                   || ', StopSel=' || right(%(marks)s, 1)) as title,
       ts_headline(config, translate(left(post.text, 20000), %(marks)s, ''), wanted,
                   'MaxFragments=2, MaxWords=35, MinWords=12, FragmentDelimiter="' || %(gap)s
                   || '", StartSel=' || left(%(marks)s, 1) || ', StopSel=' || right(%(marks)s, 1)) as excerpt
  from unnest(%(communities)s::bigint[], %(posts)s::bigint[]) as asked (community_id, post_id)
  join post using (community_id, post_id)
 cross join lateral search_config(post.language) as config
 cross join lateral words_wanted(config, %(words)s, %(head)s, %(tail)s) as wanted

-- name: found_members
-- The best of the members who match and whom the viewer may meet. Those of other communities match
-- by whole words of their names; the index answers for beginnings, of which these are a part.
with found as materialized (
    select member.*,
           member_words(member.display_name, member.handle, member.headline, member.skills)
           as words
      from member_seen_by(%(viewer_role)s, %(viewer_community)s::bigint, %(viewer_member)s::bigint)
           as member
     where member_words(member.display_name, member.handle, member.headline, member.skills)
           @@ to_tsquery('pg_catalog.simple', %(wanted)s)
       and member.removed_at is null and member.banned_at is null
       and (%(viewer_role)s = 'operator' or member.community_id = %(viewer_community)s::bigint
            or (%(named)s <> ''
                and member_words(member.display_name, member.handle, member.headline, member.skills)
                    @@ to_tsquery('pg_catalog.simple', %(named)s)))
       and (%(community_id)s::bigint is null or member.community_id = %(community_id)s::bigint)
     limit %(ranked_max)s
)
select found.*,
       (1e6 * ts_rank(words, to_tsquery('pg_catalog.simple', %(wanted)s)))::bigint as score
  from found
 order by score desc, member_id desc, community_id desc

-- name: found_communities
-- The communities whose name, place or description match. There are few, so all are read.
select community_id, external_id, name, description, language, place, created_at, system_version
  from community
 cross join lateral (
       select setweight(to_tsvector('pg_catalog.simple', name), 'A')
              || setweight(to_tsvector('pg_catalog.simple', place), 'B')
              || setweight(to_tsvector('pg_catalog.simple', description), 'C') as words) as said
 where words @@ to_tsquery('pg_catalog.simple', %(wanted)s)
 order by ts_rank(words, to_tsquery('pg_catalog.simple', %(wanted)s)) desc, name, community_id
 limit %(limit)s
