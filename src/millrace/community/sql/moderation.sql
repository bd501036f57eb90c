-- name: insert_reports
-- Takes reports that are new, opens a case for each thing without an open one and raises the others,
-- in the order of their keys; returns how many reports are new.
with line as materialized (
    select distinct on (community_id, thing_kind, thing_community_id, thing_id,
                        reporter_community_id, reporter_id) *
      from jsonb_to_recordset(%(rows)s::jsonb) as line (
           community_id bigint, case_id bigint, thing_kind text, thing_community_id bigint,
           thing_id bigint, author_community_id bigint, author_id bigint,
           reporter_community_id bigint, reporter_id bigint, reason text, detail text,
           created_at timestamptz)
     order by community_id, thing_kind, thing_community_id, thing_id, reporter_community_id,
              reporter_id, created_at
), made as (
    insert into report (community_id, thing_kind, thing_community_id, thing_id,
                        reporter_community_id, reporter_id, reason, detail, created_at)
    select community_id, thing_kind, thing_community_id, thing_id, reporter_community_id,
           reporter_id, reason, detail, created_at
      from line
        on conflict do nothing
    returning community_id, thing_kind, thing_community_id, thing_id, reporter_community_id,
              reporter_id
), counted as (
    select community_id, thing_kind, thing_community_id, thing_id, min(case_id) as case_id,
           min(author_community_id) as author_community_id, min(author_id) as author_id,
           min(created_at) as opened_at, max(created_at) as reported_at, count(*)::integer as reports
      from made
      join line using (community_id, thing_kind, thing_community_id, thing_id,
                       reporter_community_id, reporter_id)
     group by community_id, thing_kind, thing_community_id, thing_id
), raised as (
    insert into moderation_case as held (community_id, case_id, thing_kind, thing_community_id,
           thing_id, author_community_id, author_id, opened_at, reported_at, reports)
    select community_id, case_id, thing_kind, thing_community_id, thing_id, author_community_id,
           author_id, opened_at, reported_at, reports
      from counted
     order by community_id, thing_kind, thing_community_id, thing_id
        on conflict (community_id, thing_kind, thing_community_id, thing_id)
           where settled_at is null do update
       set reports = held.reports + excluded.reports,
           reported_at = greatest(held.reported_at, excluded.reported_at)
    returning reports
)
select coalesce((select sum(reports) from counted), 0)::bigint as new

-- name: join_cases
-- Joins new reports to the open cases of their things.
update report
   set case_id = held.case_id
  from moderation_case held
 where held.settled_at is null and report.case_id is null
   and (held.community_id, held.thing_kind, held.thing_community_id, held.thing_id)
     = (report.community_id, report.thing_kind, report.thing_community_id, report.thing_id)
   and (report.community_id, report.thing_kind, report.thing_community_id, report.thing_id) in (
       select community_id, thing_kind, thing_community_id, thing_id
         from jsonb_to_recordset(%(rows)s::jsonb) as line (
              community_id bigint, thing_kind text, thing_community_id bigint, thing_id bigint))

-- name: settle_case
-- Settles the open case of a thing, if it has one.
update moderation_case
   set settled_at = %(now)s, settled_by = %(by)s, outcome = %(outcome)s
 where community_id = %(community_id)s and thing_kind = %(thing_kind)s
   and thing_community_id = %(thing_community_id)s and thing_id = %(thing_id)s
   and settled_at is null
returning case_id

-- name: insert_action
-- Adds to the audit trail.
insert into moderation_action (community_id, action_id, move, thing_kind, thing_community_id,
       thing_id, subject_community_id, subject_id, done_by, reason, case_id, happened_at)
values (%(community_id)s, %(action_id)s, %(move)s, %(thing_kind)s, %(thing_community_id)s,
        %(thing_id)s, %(subject_community_id)s, %(subject_id)s, %(by)s, %(reason)s,
        %(case_id)s, %(now)s)

-- name: standing_of_post
-- A post as a judgement finds it.
select post.community_id as home, author.community_id as subject_community_id,
       author.member_id as subject_id, author.role as subject_role,
       case when post.removed_at is not null then 'removed'
            when post.hidden_at is not null then 'hidden' else 'standing' end as state,
       exists (
           select from moderation_case held
            where held.community_id = post.community_id and held.thing_kind = 'post'
              and held.thing_community_id = post.community_id and held.thing_id = post.post_id
              and held.settled_at is null) as reported
  from post
  join member author
    on author.community_id = post.community_id and author.member_id = post.author_id
 where post.community_id = %(thing_community_id)s and post.post_id = %(thing_id)s

-- name: standing_of_comment
-- A comment as a judgement finds it: the moderators of its post judge.
select comment.post_community_id as home, author.community_id as subject_community_id,
       author.member_id as subject_id, author.role as subject_role,
       case when comment.removed_at is not null then 'removed'
            when comment.hidden_at is not null then 'hidden' else 'standing' end as state,
       exists (
           select from moderation_case held
            where held.community_id = comment.post_community_id and held.thing_kind = 'comment'
              and held.thing_community_id = comment.community_id
              and held.thing_id = comment.comment_id and held.settled_at is null) as reported
  from comment
  join member author
    on author.community_id = comment.community_id and author.member_id = comment.author_id
 where comment.community_id = %(thing_community_id)s and comment.comment_id = %(thing_id)s

-- name: standing_of_member
-- A member as a judgement finds them.
select community_id as home, community_id as subject_community_id, member_id as subject_id,
       role as subject_role,
       case when removed_at is not null then 'removed'
            when banned_at is not null then 'banned' else 'standing' end as state,
       exists (
           select from moderation_case held
            where held.community_id = member.community_id and held.thing_kind = 'member'
              and held.thing_community_id = member.community_id
              and held.thing_id = member.member_id and held.settled_at is null) as reported
  from member
 where community_id = %(thing_community_id)s and member_id = %(thing_id)s

-- name: lock_comment
-- Holds a comment's row until the transaction ends, so that a judgement is made from what is there.
select from comment
 where community_id = %(community_id)s and comment_id = %(comment_id)s
   for no key update

-- name: post_of_comment
-- The post that a comment is under.
select post_community_id, post_id
  from comment
 where community_id = %(community_id)s and comment_id = %(comment_id)s

-- name: hide_post
-- Hides a post that stands.
update post
   set hidden_at = %(now)s, hidden_by = %(by)s, hidden_reason = %(reason)s
 where community_id = %(community_id)s and post_id = %(post_id)s
   and removed_at is null and hidden_at is null

-- name: restore_post
-- Shows a hidden post again.
update post
   set hidden_at = null, hidden_by = null, hidden_reason = null
 where community_id = %(community_id)s and post_id = %(post_id)s and hidden_at is not null

-- name: hide_comment
-- Hides a comment that stands.
update comment
   set hidden_at = %(now)s, hidden_by = %(by)s, hidden_reason = %(reason)s
 where community_id = %(community_id)s and comment_id = %(comment_id)s
   and removed_at is null and hidden_at is null

-- name: restore_comment
-- Shows a hidden comment again.
update comment
   set hidden_at = null, hidden_by = null, hidden_reason = null
 where community_id = %(community_id)s and comment_id = %(comment_id)s and hidden_at is not null

-- name: ban_member
-- Bans a member who stands.
update member
   set banned_at = %(now)s, banned_by = %(by)s, banned_reason = %(reason)s
 where community_id = %(community_id)s and member_id = %(member_id)s
   and removed_at is null and banned_at is null

-- name: lift_ban
-- Lets a banned member in again.
update member
   set banned_at = null, banned_by = null, banned_reason = null
 where community_id = %(community_id)s and member_id = %(member_id)s and banned_at is not null

-- name: cases
-- A stretch of the queue, or of what was settled, with the things, what was said against them and
-- their authors' earlier cases. The order is a number, `weight`: the reports, or 0 for newest first.
-- `gone` asks for things that nobody sees any more, or for the others; null for both.
with page as (
    select held.*, case when %(most_reported)s then held.reports else 0 end as weight
      from moderation_case held
     where (%(community_id)s::bigint is null or held.community_id = %(community_id)s::bigint)
       and (held.settled_at is not null) = %(settled)s
       and (%(case_id)s::bigint is null or held.case_id = %(case_id)s::bigint)
       and (%(gone)s::boolean is null or %(gone)s::boolean = (
            exists (
                select from member author
                 where author.community_id = held.author_community_id
                   and author.member_id = held.author_id and author.removed_at is not null)
            or (held.thing_kind = 'post' and exists (
                select from post
                 where post.community_id = held.thing_community_id
                   and post.post_id = held.thing_id and post.removed_at is not null))
            or (held.thing_kind = 'comment' and exists (
                select from comment
                  join post on post.community_id = comment.post_community_id
                           and post.post_id = comment.post_id
                 where comment.community_id = held.thing_community_id
                   and comment.comment_id = held.thing_id
                   and (comment.removed_at is not null or post.removed_at is not null)))))
       and (%(after_case)s::bigint is null
            or (case when %(most_reported)s then held.reports else 0 end, held.case_id,
                held.community_id)
               < (%(after_weight)s::bigint, %(after_case)s::bigint, %(after_community)s::bigint))
     order by weight desc, held.case_id desc, held.community_id desc
     limit %(limit)s
)
select page.community_id, page.case_id, page.thing_kind, page.thing_community_id, page.thing_id,
       page.author_community_id, page.author_id, page.opened_at, page.reported_at, page.reports,
       page.settled_at, page.settled_by, page.outcome, page.system_version,
       coalesce(post.title, '') as title,
       coalesce(post.text, comment.text, author.headline) as text,
       coalesce(comment.post_community_id, post.community_id) as post_community_id,
       coalesce(comment.post_id, post.post_id) as post_id,
       coalesce(post.created_at, comment.created_at, author.joined_at) as written_at,
       case when coalesce(post.removed_at, comment.removed_at) is not null then 'removed'
            when coalesce(post.hidden_at, comment.hidden_at) is not null then 'hidden'
            when page.thing_kind = 'member' and author.removed_at is not null then 'removed'
            when page.thing_kind = 'member' and author.banned_at is not null then 'banned'
            else 'standing' end as state,
       author.external_id as by_external_id, author.handle as by_handle,
       author.display_name as by_display_name, author.headline as by_headline,
       author.about as by_about, author.skills as by_skills, author.place as by_place,
       author.languages as by_languages, author.role as by_role, author.joined_at as by_joined_at,
       author.removed_at as by_removed_at, author.banned_at as by_banned_at,
       author.system_version as by_system_version,
       said.reasons, earlier.earlier, earlier.upheld
  from page
  join member author
    on author.community_id = page.author_community_id and author.member_id = page.author_id
  left join post
    on page.thing_kind = 'post' and post.community_id = page.thing_community_id
   and post.post_id = page.thing_id
  left join comment
    on page.thing_kind = 'comment' and comment.community_id = page.thing_community_id
   and comment.comment_id = page.thing_id
 cross join lateral (
       select coalesce(jsonb_object_agg(reason, number), '{}') as reasons
         from (select reason, count(*) as number
                 from report
                where (report.community_id, report.thing_kind, report.thing_community_id,
                       report.thing_id)
                    = (page.community_id, page.thing_kind, page.thing_community_id, page.thing_id)
                  and report.case_id = page.case_id
                group by reason) as counted) as said
 cross join lateral (
       select count(*) as earlier,
              count(*) filter (where outcome in ('hide', 'remove', 'warn', 'ban')) as upheld
         from moderation_case old
        where old.author_community_id = page.author_community_id
          and old.author_id = page.author_id and old.settled_at is not null
          and old.case_id <> page.case_id) as earlier
 order by page.weight desc, page.case_id desc, page.community_id desc

-- name: case_state
-- Whether a case is settled, for those who know its key.
select settled_at is not null as settled
  from moderation_case
 where community_id = %(community_id)s and case_id = %(case_id)s

-- name: reports_of_case
-- What was said in a case, in the order of the reporters' keys, with who said it.
select report.reporter_community_id, report.reporter_id, report.reason, report.detail,
       report.created_at, member.display_name as reporter_name
  from moderation_case held
  join report
    on (report.community_id, report.thing_kind, report.thing_community_id, report.thing_id)
     = (held.community_id, held.thing_kind, held.thing_community_id, held.thing_id)
   and report.case_id = held.case_id
  join member
    on member.community_id = report.reporter_community_id
   and member.member_id = report.reporter_id
 where held.community_id = %(community_id)s and held.case_id = %(case_id)s
   and (report.reporter_community_id, report.reporter_id)
     > (%(after_community)s::bigint, %(after_member)s::bigint)
 order by report.reporter_community_id, report.reporter_id
 limit %(limit)s

-- name: actions
-- A stretch of the audit trail, newest first, with the names of those whom it concerns. Only the name
-- of a member is read as a key, which `case` makes sure of: a join may look at every line.
select action.community_id, action.action_id, action.move, action.thing_kind,
       action.thing_community_id, action.thing_id, action.subject_community_id, action.subject_id,
       action.done_by, action.reason, action.case_id, action.happened_at,
       subject.display_name as subject_name, coalesce(doer.display_name, action.done_by) as done_by_name
  from moderation_action action
  join member subject
    on subject.community_id = action.subject_community_id
   and subject.member_id = action.subject_id
  left join member doer
    on doer.community_id = case when action.done_by like 'member:%%'
                                 then split_part(substr(action.done_by, 8), '-', 1)::bigint end
   and doer.member_id = case when action.done_by like 'member:%%'
                              then split_part(substr(action.done_by, 8), '-', 2)::bigint end
 where (%(community_id)s::bigint is null or action.community_id = %(community_id)s::bigint)
   and (%(thing_kind)s::text is null
        or (action.thing_kind, action.thing_community_id, action.thing_id)
         = (%(thing_kind)s::text, %(thing_community_id)s::bigint, %(thing_id)s::bigint))
   and (%(subject_id)s::bigint is null
        or (action.subject_community_id, action.subject_id)
         = (%(subject_community_id)s::bigint, %(subject_id)s::bigint))
   and (%(done_by)s::text is null or action.done_by = %(done_by)s::text)
   and (not %(told)s or action.move <> 'dismiss')
   and (action.action_id, action.community_id)
       < (%(before_action)s::bigint, %(before_community)s::bigint)
 order by action.action_id desc, action.community_id desc
 limit %(limit)s
