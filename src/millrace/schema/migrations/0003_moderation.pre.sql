-- Moderation as records, what it hides, and search.
alter table member
    add column banned_at timestamptz,
    add column banned_by text,
    add column banned_reason text,
    add constraint member_banned_said check ((banned_at is null) = (banned_by is null));
alter table post
    add column hidden_at timestamptz,
    add column hidden_by text,
    add column hidden_reason text,
    add constraint post_hidden_said check ((hidden_at is null) = (hidden_by is null)),
    add constraint post_hidden_or_removed check (hidden_at is null or removed_at is null);
alter table comment
    add column hidden_at timestamptz,
    add column hidden_by text,
    add column hidden_reason text,
    add constraint comment_hidden_said check ((hidden_at is null) = (hidden_by is null)),
    add constraint comment_hidden_or_removed check (hidden_at is null or removed_at is null);

-- Followers in the order of their keys, so that a page of them is read and not sorted.
drop index follow_by_target;
create index follow_by_target on follow (target_community_id, target_id, community_id, member_id);

-- A thing that members reported, from the first report until somebody judges it. It lives with the
-- community whose moderators judge: that of the post, also for a comment under it, or that of the
-- member. A thing that is reported again after a judgement gets a new case.
create table moderation_case (
    community_id        bigint      not null,
    case_id             bigint      not null,
    thing_kind          text        not null check (thing_kind in ('post', 'comment', 'member')),
    thing_community_id  bigint      not null,
    thing_id            bigint      not null,
    author_community_id bigint      not null,
    author_id           bigint      not null,
    opened_at           timestamptz not null,
    reported_at         timestamptz not null,
    reports             integer     not null check (reports > 0),
    settled_at          timestamptz,
    settled_by          text,
    outcome             text        check (outcome in
                        ('hide', 'remove', 'restore', 'dismiss', 'warn', 'ban', 'lift')),
    system_version      bigint      not null default 0,
    primary key (community_id, case_id),
    check ((settled_at is null) = (settled_by is null)),
    check ((settled_at is null) = (outcome is null))
);
-- One open case of a thing at a time; reports find it by this.
create unique index moderation_case_open on moderation_case
    (community_id, thing_kind, thing_community_id, thing_id) where settled_at is null;
-- The queue, most reported first; newest first it is read by key.
create index moderation_case_by_reports on moderation_case
    (community_id, reports desc, case_id desc) where settled_at is null;
-- An author's earlier cases, wherever they were judged.
create index moderation_case_by_author on moderation_case (author_community_id, author_id);

-- What a member said against a thing, once. It lives with its case.
create table report (
    community_id          bigint      not null,
    thing_kind            text        not null check (thing_kind in ('post', 'comment', 'member')),
    thing_community_id    bigint      not null,
    thing_id              bigint      not null,
    reporter_community_id bigint      not null,
    reporter_id           bigint      not null,
    reason                text        not null check (reason in ('spam', 'scam', 'harassment',
                          'hate', 'violence', 'sexual', 'privacy', 'falsehood', 'off_topic',
                          'other')),
    detail                text        not null default '',
    created_at            timestamptz not null,
    case_id               bigint,
    primary key (community_id, thing_kind, thing_community_id, thing_id,
                 reporter_community_id, reporter_id)
);

-- What was done about things and members, by whom and why: the audit trail. Rows are only added.
-- subject: the member whom it concerns, the author of the thing. done_by: `member:<key>` or
-- `operator:<name>`, as in every trail.
create table moderation_action (
    community_id         bigint      not null,
    action_id            bigint      not null,
    move                 text        not null check (move in
                         ('hide', 'remove', 'restore', 'dismiss', 'warn', 'ban', 'lift')),
    thing_kind           text        not null check (thing_kind in ('post', 'comment', 'member')),
    thing_community_id   bigint      not null,
    thing_id             bigint      not null,
    subject_community_id bigint      not null,
    subject_id           bigint      not null,
    done_by              text        not null,
    reason               text        not null check (reason <> ''),
    case_id              bigint,
    happened_at          timestamptz not null,
    primary key (community_id, action_id),
    constraint moderation_move_fits check (
        case thing_kind when 'member' then move not in ('hide', 'restore')
                        else move not in ('ban', 'lift') end),
    constraint moderation_no_own_case check (
        done_by <> 'member:' || subject_community_id || '-' || subject_id)
);
-- What was done about one thing; about one member's things; by one moderator.
create index moderation_action_by_thing on moderation_action
    (thing_kind, thing_community_id, thing_id, action_id);
create index moderation_action_by_subject on moderation_action
    (subject_community_id, subject_id, action_id);
create index moderation_action_by_doer on moderation_action (done_by, action_id);

-- Refuses what would make the audit trail say something else than it said.
create function refuse_rewriting() returns trigger language plpgsql as $$
begin
    raise exception '% on % would rewrite what happened', lower(tg_op), tg_table_name
        using errcode = 'feature_not_supported', hint = 'Add a row that says what is so now.';
end
$$;
create trigger keep_rows before update or delete on moderation_action
    for each row execute function refuse_rewriting();
create trigger keep_table before truncate on moderation_action
    for each statement execute function refuse_rewriting();
-- A case is judged once.
create trigger keep_judgement before update on moderation_case for each row
    when (old.settled_at is not null) execute function refuse_rewriting();

-- Refuses a moderator who shuts a moderator out: that is for operators.
create function refuse_judging_peers() returns trigger language plpgsql as $$
begin
    if exists (
        select from member
         where community_id = new.thing_community_id and member_id = new.thing_id
           and role = 'moderator'
    ) then
        raise exception 'a moderator does not % a moderator', new.move
            using errcode = 'check_violation', constraint = 'moderation_no_peers',
                  table = tg_table_name;
    end if;
    return new;
end
$$;
create trigger refuse_judging_peers before insert on moderation_action for each row
    when (new.thing_kind = 'member' and new.move in ('ban', 'remove')
          and new.done_by like 'member:%')
    execute function refuse_judging_peers();

-- Refuses to bring back what was removed: a removal is final.
create function refuse_return() returns trigger language plpgsql as $$
begin
    raise exception 'a removed % does not come back', tg_table_name
        using errcode = 'check_violation', constraint = tg_table_name || '_stays_removed',
              table = tg_table_name;
end
$$;
create trigger stay_removed before update on member for each row
    when (old.removed_at is not null and new.removed_at is null) execute function refuse_return();
create trigger stay_removed before update on post for each row
    when (old.removed_at is not null and new.removed_at is null) execute function refuse_return();
create trigger stay_removed before update on comment for each row
    when (old.removed_at is not null and new.removed_at is null) execute function refuse_return();

call make_versioned('moderation_case', 'case_id');

-- The one rule of visibility: hidden things are for their authors, banned members for nobody.
create or replace function member_seen_by(viewer_role text, viewer_community bigint, viewer_member bigint)
returns setof member language sql stable as $$
    select member.*
      from member
     where viewer_role = 'operator'
        or (viewer_role = 'moderator' and member.community_id = viewer_community)
        or (member.removed_at is null and member.banned_at is null
            and not exists (
                select from block
                 where block.community_id = viewer_community and block.member_id = viewer_member
                   and block.target_community_id = member.community_id
                   and block.target_id = member.member_id)
            and not exists (
                select from block
                 where block.target_community_id = viewer_community
                   and block.target_id = viewer_member
                   and block.community_id = member.community_id
                   and block.member_id = member.member_id))
$$;

create or replace function post_seen_by(viewer_role text, viewer_community bigint, viewer_member bigint)
returns setof post language sql stable as $$
    select post.*
      from post
     where viewer_role = 'operator'
        or (viewer_role = 'moderator' and post.community_id = viewer_community)
        or (post.removed_at is null
            and (post.hidden_at is null
                 or (post.community_id = viewer_community and post.author_id = viewer_member))
            and (post.audience = 'public'
                 or post.community_id = viewer_community
                 or (post.audience = 'nearby' and exists (
                        select from nearby
                         where nearby.community_id = viewer_community
                           and nearby.neighbour_id = post.community_id)))
            and exists (
                select from member_seen_by(viewer_role, viewer_community, viewer_member) as author
                 where author.community_id = post.community_id
                   and author.member_id = post.author_id))
$$;

create or replace function comment_seen_by(viewer_role text, viewer_community bigint, viewer_member bigint)
returns setof comment language sql stable as $$
    select comment.*
      from comment
     where viewer_role = 'operator'
        or (viewer_role = 'moderator' and comment.post_community_id = viewer_community)
        or (comment.removed_at is null
            and (comment.hidden_at is null
                 or (comment.community_id = viewer_community
                     and comment.author_id = viewer_member))
            and exists (
                select from post_seen_by(viewer_role, viewer_community, viewer_member) as post
                 where post.community_id = comment.post_community_id
                   and post.post_id = comment.post_id)
            and exists (
                select from member_seen_by(viewer_role, viewer_community, viewer_member) as author
                 where author.community_id = comment.community_id
                   and author.member_id = comment.author_id))
$$;

-- The text search configuration of a language tag; `simple` where PostgreSQL has none.
create function search_config(language text) returns regconfig
language sql immutable parallel safe as $$
    select case lower(split_part(language, '-', 1))
           when 'en' then 'pg_catalog.english'::regconfig
           when 'ar' then 'pg_catalog.arabic'::regconfig
           when 'ca' then 'pg_catalog.catalan'::regconfig
           when 'da' then 'pg_catalog.danish'::regconfig
           when 'de' then 'pg_catalog.german'::regconfig
           when 'el' then 'pg_catalog.greek'::regconfig
           when 'es' then 'pg_catalog.spanish'::regconfig
           when 'eu' then 'pg_catalog.basque'::regconfig
           when 'fi' then 'pg_catalog.finnish'::regconfig
           when 'fr' then 'pg_catalog.french'::regconfig
           when 'ga' then 'pg_catalog.irish'::regconfig
           when 'hi' then 'pg_catalog.hindi'::regconfig
           when 'hu' then 'pg_catalog.hungarian'::regconfig
           when 'hy' then 'pg_catalog.armenian'::regconfig
           when 'id' then 'pg_catalog.indonesian'::regconfig
           when 'it' then 'pg_catalog.italian'::regconfig
           when 'lt' then 'pg_catalog.lithuanian'::regconfig
           when 'ne' then 'pg_catalog.nepali'::regconfig
           when 'nl' then 'pg_catalog.dutch'::regconfig
           when 'no' then 'pg_catalog.norwegian'::regconfig
           when 'nb' then 'pg_catalog.norwegian'::regconfig
           when 'nn' then 'pg_catalog.norwegian'::regconfig
           when 'pt' then 'pg_catalog.portuguese'::regconfig
           when 'ro' then 'pg_catalog.romanian'::regconfig
           when 'ru' then 'pg_catalog.russian'::regconfig
           when 'sr' then 'pg_catalog.serbian'::regconfig
           when 'sv' then 'pg_catalog.swedish'::regconfig
           when 'ta' then 'pg_catalog.tamil'::regconfig
           when 'tr' then 'pg_catalog.turkish'::regconfig
           when 'yi' then 'pg_catalog.yiddish'::regconfig
           else 'pg_catalog.simple'::regconfig end
$$;

-- What a post can be found by: its title before its topics and these before its text, in the words
-- of its language. The body is bound now and not looked up by name later: an index is made with
-- another search path.
create function post_words(language text, title text, topics text[], body text) returns tsvector
language sql immutable parallel safe
return setweight(to_tsvector(search_config(language), title), 'A')
    || setweight(to_tsvector(search_config(language), array_to_string(topics, ' ')), 'B')
    || setweight(to_tsvector(search_config(language), left(body, 20000)), 'C');

-- What a member can be found by. Names have no language, and the parts of a handle are words.
create function member_words(display_name text, handle text, headline text, skills text[])
returns tsvector language sql immutable parallel safe
return setweight(to_tsvector('pg_catalog.simple',
                             display_name || ' ' || translate(handle, '._-', '   ')), 'A')
    || setweight(to_tsvector('pg_catalog.simple', array_to_string(skills, ' ')), 'B')
    || setweight(to_tsvector('pg_catalog.simple', headline), 'C');

-- What a search asks for in one language: the words as a search engine reads them, or else the
-- first of them with one that begins like the last.
create function words_wanted(config regconfig, words text, head text, tail text) returns tsquery
language sql immutable parallel safe
return websearch_to_tsquery(config, words)
    || case when tail = '' then ''::tsquery
            else websearch_to_tsquery(config, head) && to_tsquery(config, tail) end;

-- The same in any language, for the index: most languages agree about most words.
create function words_wanted_anywhere(words text, head text, tail text) returns tsquery
language sql stable parallel safe as $$
    select coalesce(string_agg(distinct '(' || wanted::text || ')', ' | ')::tsquery, ''::tsquery)
      from pg_catalog.pg_ts_config as known
     cross join lateral words_wanted(known.oid::regconfig, words, head, tail) as wanted
     where known.cfgnamespace = 'pg_catalog'::regnamespace and wanted <> ''::tsquery
$$;

-- Search: expressions, so that no row carries its words twice and the change stream none at all.
create index post_by_words on post using gin (post_words(language, title, topics, text));
create index member_by_words on member using gin
    (member_words(display_name, handle, headline, skills));
