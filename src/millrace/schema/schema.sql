-- What is. migrations/ is how we came here; a test proves that the two agree.
--
-- Rules that hold for every table of community data:
--   * community_id is the first column of the primary key: it is the shard key.
--   * ids are time-ordered 64-bit numbers made outside (kernel/ids.py); there are no sequences,
--     so that a community can move between shards.
--   * rows live with the actor's community, counters live with the post.
--   * system_version is raised by a trigger on every write and never restarts, not even when a
--     key is deleted and inserted again.

-- ---------------------------------------------------------------- store: versions

-- The version memory of deleted keys. It carries community_id first, so it moves with a community.
create table tombstone (
    community_id    bigint      not null,
    table_name      text        not null,
    key             text        not null,
    system_version  bigint      not null,
    deleted_at      timestamptz not null default now(),
    primary key (community_id, table_name, key)
);

-- The key of a row as text, from the columns that the trigger names. A loop, not an aggregate:
-- it runs for every row written, and this halves the cost.
create function key_of(line jsonb, columns text[]) returns text language plpgsql immutable as $$
declare
    key text := line ->> columns[array_lower(columns, 1)];
begin
    for place in array_lower(columns, 1) + 1 .. array_upper(columns, 1) loop
        key := key || '/' || (line ->> columns[place]);
    end loop;
    return key;
end
$$;

-- Raises the version before every write, and remembers it on delete.
create function raise_version() returns trigger language plpgsql as $$
declare
    remembered bigint;
    line jsonb;
begin
    if tg_op = 'UPDATE' then
        new.system_version := old.system_version + 1;
        return new;
    end if;
    if tg_op = 'DELETE' then
        line := to_jsonb(old);
        insert into tombstone (community_id, table_name, key, system_version)
        values (old.community_id, tg_table_name, key_of(line, tg_argv), old.system_version + 1)
        on conflict (community_id, table_name, key) do update
            set system_version = greatest(tombstone.system_version, excluded.system_version),
                deleted_at = excluded.deleted_at;
        return old;
    end if;
    line := to_jsonb(new);
    select system_version into remembered
      from tombstone
     where community_id = new.community_id and table_name = tg_table_name
       and key = key_of(line, tg_argv);
    new.system_version := coalesce(remembered, 0) + 1;
    return new;
end
$$;

-- The look above runs before the unique index makes an insert wait for a delete in flight. This
-- second look runs after it: an insert that overtook a delete is refused and tried again. Only
-- READ COMMITTED gives the second look a newer snapshot, so other isolations may not insert.
create function verify_version() returns trigger language plpgsql as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'insert into % at READ COMMITTED: its versions are looked up twice', tg_table_name
            using errcode = 'invalid_transaction_state';
    end if;
    if exists (
        select from tombstone
         where community_id = new.community_id and table_name = tg_table_name
           and key = key_of(to_jsonb(new), tg_argv)
           and system_version >= new.system_version
    ) then
        raise exception 'the key was deleted while it was being inserted; try again'
            using errcode = 'serialization_failure';
    end if;
    return null;
end
$$;

-- Refuses what would make a key forget its version: a changed key, or TRUNCATE, which fires no
-- trigger per row.
create function refuse_forgetting() returns trigger language plpgsql as $$
begin
    raise exception '% on % would forget versions', lower(tg_op), tg_table_name
        using errcode = 'feature_not_supported',
              hint = 'Delete the rows; insert the new key as a row of its own.';
end
$$;

-- Gives a table of community data its four triggers; `columns` is the key without community_id.
create procedure make_versioned(target regclass, variadic columns text[]) language plpgsql as $$
declare
    arguments text;
    old_key text := 'old.community_id';
    new_key text := 'new.community_id';
    name text;
begin
    select string_agg(quote_literal(c), ', ') into arguments from unnest(columns) as named (c);
    foreach name in array columns loop
        old_key := old_key || format(', old.%I', name);
        new_key := new_key || format(', new.%I', name);
    end loop;
    execute format('create trigger raise_version before insert or update or delete on %s
                    for each row execute function raise_version(%s)', target, arguments);
    execute format('create trigger verify_version after insert on %s
                    for each row execute function verify_version(%s)', target, arguments);
    execute format('create trigger keep_key before update on %s for each row
                    when (row(%s) is distinct from row(%s))
                    execute function refuse_forgetting()', target, old_key, new_key);
    execute format('create trigger keep_rows before truncate on %s
                    for each statement execute function refuse_forgetting()', target);
end
$$;

-- ---------------------------------------------------------------- community

create table community (
    community_id    bigint      primary key,
    external_id     text        not null unique,
    name            text        not null,
    description     text        not null default '',
    language        text        not null default 'en',
    place           text        not null default '',
    created_at      timestamptz not null,
    system_version  bigint      not null default 0,
    country         text        not null default '' check (country = '' or country ~ '^[A-Z]{2}$')
);

-- Whose posts for audience 'nearby' a community also sees. Directed: a row each way for both.
create table nearby (
    community_id    bigint      not null,
    neighbour_id    bigint      not null,
    created_at      timestamptz not null default now(),
    system_version  bigint      not null default 0,
    primary key (community_id, neighbour_id)
);

create table member (
    community_id    bigint      not null,
    member_id       bigint      not null,
    external_id     text        not null,
    handle          text        not null,
    display_name    text        not null,
    headline        text        not null default '',
    about           text        not null default '',
    skills          text[]      not null default '{}',
    place           text        not null default '',
    languages       text[]      not null default '{}',
    role            text        not null default 'member' check (role in ('member', 'moderator')),
    joined_at       timestamptz not null,
    removed_at      timestamptz,
    removed_by      text,
    removed_reason  text,
    system_version  bigint      not null default 0,
    banned_at       timestamptz,
    banned_by       text,
    banned_reason   text,
    primary key (community_id, member_id),
    unique (community_id, external_id),
    unique (community_id, handle),
    check ((removed_at is null) = (removed_by is null)),
    constraint member_banned_said check ((banned_at is null) = (banned_by is null))
);

create table post (
    community_id    bigint      not null,
    post_id         bigint      not null,
    external_id     text        not null,
    author_id       bigint      not null,
    kind            text        not null default 'note'
                    check (kind in ('note', 'question', 'event', 'listing', 'link', 'alert')),
    title           text        not null default '',
    text            text        not null,
    link            text        not null default '',
    topics          text[]      not null default '{}',
    language        text        not null default 'en',
    audience        text        not null default 'community'
                    check (audience in ('community', 'nearby', 'public')),
    created_at      timestamptz not null,
    edited_at       timestamptz,
    removed_at      timestamptz,
    removed_by      text,
    removed_reason  text,
    system_version  bigint      not null default 0,
    hidden_at       timestamptz,
    hidden_by       text,
    hidden_reason   text,
    primary key (community_id, post_id),
    unique (community_id, external_id),
    foreign key (community_id, author_id) references member (community_id, member_id),
    check ((removed_at is null) = (removed_by is null)),
    constraint post_hidden_said check ((hidden_at is null) = (hidden_by is null)),
    constraint post_hidden_or_removed check (hidden_at is null or removed_at is null)
);
-- An author's page and the network source: newest posts of one author.
create index post_by_author on post (community_id, author_id, post_id desc);

-- Counters apart from the text: they change often, and must not raise the post's version.
create table post_counter (
    community_id    bigint      not null,
    post_id         bigint      not null,
    views           bigint      not null default 0,
    clicks          bigint      not null default 0,
    long_dwells     bigint      not null default 0,
    likes           bigint      not null default 0,
    comments        bigint      not null default 0,
    shares          bigint      not null default 0,
    hides           bigint      not null default 0,
    reports         bigint      not null default 0,
    system_version  bigint      not null default 0,
    primary key (community_id, post_id)
);

create table member_counter (
    community_id    bigint      not null,
    member_id       bigint      not null,
    followers       bigint      not null default 0,
    posts           bigint      not null default 0,
    views           bigint      not null default 0,
    likes           bigint      not null default 0,
    system_version  bigint      not null default 0,
    primary key (community_id, member_id)
);

-- Where a number stands among its community's: 99 rising cuts, cut i is the i-th percentile.
-- Refreshed as numbers move; a percentile is a binary search in it, never a scan.
create table percentile_scale (
    community_id    bigint      not null,
    metric          text        not null,
    cuts            float8[]    not null check (cardinality(cuts) = 99),
    samples         bigint      not null,
    made_at         timestamptz not null,
    primary key (community_id, metric)
);

-- How far a community's counters had moved when its scales were made: the sum of their versions,
-- which rises with every write.
create table percentile_mark (
    community_id    bigint      primary key,
    moves           bigint      not null,
    made_at         timestamptz not null
);

-- A comment lives with its author's community; the post, and the comment that it answers, may be
-- of another one.
create table comment (
    community_id      bigint      not null,
    comment_id        bigint      not null,
    external_id       text        not null,
    author_id         bigint      not null,
    post_community_id bigint      not null,
    post_id           bigint      not null,
    parent_community_id bigint,
    parent_id         bigint,
    text              text        not null,
    created_at        timestamptz not null,
    edited_at         timestamptz,
    removed_at        timestamptz,
    removed_by        text,
    removed_reason    text,
    system_version    bigint      not null default 0,
    hidden_at         timestamptz,
    hidden_by         text,
    hidden_reason     text,
    primary key (community_id, comment_id),
    unique (community_id, external_id),
    foreign key (community_id, author_id) references member (community_id, member_id),
    check ((parent_id is null) = (parent_community_id is null)),
    check ((removed_at is null) = (removed_by is null)),
    constraint comment_hidden_said check ((hidden_at is null) = (hidden_by is null)),
    constraint comment_hidden_or_removed check (hidden_at is null or removed_at is null)
);
-- A post's thread in the order of writing.
create index comment_by_post on comment (post_community_id, post_id, comment_id);

create table reaction (
    community_id      bigint      not null,
    member_id         bigint      not null,
    post_community_id bigint      not null,
    post_id           bigint      not null,
    kind              text        not null default 'like' check (kind in ('like')),
    created_at        timestamptz not null,
    system_version    bigint      not null default 0,
    primary key (community_id, member_id, post_community_id, post_id, kind)
);

create table follow (
    community_id        bigint      not null,
    member_id           bigint      not null,
    target_community_id bigint      not null,
    target_id           bigint      not null,
    created_at          timestamptz not null,
    system_version      bigint      not null default 0,
    primary key (community_id, member_id, target_community_id, target_id),
    check (community_id <> target_community_id or member_id <> target_id)
);
-- A member's followers, in the order of their keys: a page of them is read and not sorted.
create index follow_by_target on follow (target_community_id, target_id, community_id, member_id);

-- Blocks hold both ways: neither sees the other.
create table block (
    community_id        bigint      not null,
    member_id           bigint      not null,
    target_community_id bigint      not null,
    target_id           bigint      not null,
    created_at          timestamptz not null,
    system_version      bigint      not null default 0,
    primary key (community_id, member_id, target_community_id, target_id),
    check (community_id <> target_community_id or member_id <> target_id)
);
-- Who blocked me: the other direction of the same rule.
create index block_by_target on block (target_community_id, target_id);

create table mute (
    community_id        bigint      not null,
    member_id           bigint      not null,
    target_community_id bigint      not null,
    target_id           bigint      not null,
    created_at          timestamptz not null,
    system_version      bigint      not null default 0,
    primary key (community_id, member_id, target_community_id, target_id),
    check (community_id <> target_community_id or member_id <> target_id)
);

-- Logs: written once, read as one member's history by time. The natural key makes a repeated
-- batch harmless.
create table impression (
    community_id      bigint      not null,
    member_id         bigint      not null,
    shown_at          timestamptz not null,
    post_community_id bigint      not null,
    post_id           bigint      not null,
    surface           text        not null default 'feed',
    position          integer     not null check (position >= 0),
    served_feed_id    bigint,
    app_version       text        not null default '',
    primary key (community_id, member_id, shown_at, post_community_id, post_id, surface)
);

create table engagement (
    community_id      bigint      not null,
    member_id         bigint      not null,
    happened_at       timestamptz not null,
    post_community_id bigint      not null,
    post_id           bigint      not null,
    kind              text        not null check (kind in
                      ('click', 'long_dwell', 'like', 'comment', 'share', 'hide', 'mute', 'block', 'report')),
    surface           text        not null default 'feed',
    position          integer     check (position >= 0),
    dwell_ms          integer     check (dwell_ms >= 0),
    app_version       text        not null default '',
    primary key (community_id, member_id, happened_at, post_community_id, post_id, kind)
);
-- What a member never wants to meet again: read on every feed, and few among many rows.
create index engagement_against on engagement
    (community_id, member_id, post_community_id, post_id) where kind in ('hide', 'report');
-- Who liked a post: when it changes or goes, so do their histories.
create index engagement_for on engagement
    (post_community_id, post_id) where kind in ('click', 'long_dwell', 'like', 'comment', 'share');

-- ---------------------------------------------------------------- community: moderation

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

-- ---------------------------------------------------------------- community: search

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

-- ---------------------------------------------------------------- community: who is who

-- People who run the installation, and servers that decide by its flags (flag_reader); they are not
-- members of a community.
create table operator_account (
    name            text        primary key,
    role            text        not null check (role in ('operator', 'release_manager',
                    'flag_reader')),
    created_at      timestamptz not null,
    disabled_at     timestamptz,
    disabled_by     text,
    disabled_reason text
);

-- Own keys, rotated: the newest signs, retired ones verify until their last token has expired.
create table signing_key (
    key_id          text        primary key,
    algorithm       text        not null,
    private_pem     text        not null,
    public_pem      text        not null,
    created_at      timestamptz not null,
    retired_at      timestamptz
);

create table revoked_token (
    token_id        text        primary key,
    subject         text        not null,
    revoked_at      timestamptz not null,
    revoked_by      text        not null,
    reason          text        not null,
    expires_at      timestamptz not null
);

-- ---------------------------------------------------------------- feed

-- Vectors are fp16 bytes, little endian, searched in memory: no extension is needed.
-- percentiles: those that the prompt was made with, in the order of its markers.
-- author_version, community_version: the prompt names both, so their versions count as the post's.
create table post_embedding (
    community_id    bigint      not null,
    post_id         bigint      not null,
    model_version   text        not null,
    prompt_version  text        not null,
    prompt_hash     text        not null,
    source_version  bigint      not null,
    position        pg_lsn      not null,
    vector          bytea       not null,
    made_at         timestamptz not null,
    percentiles     smallint[]  not null default '{}',
    author_version  bigint      not null default 0,
    community_version bigint    not null default 0,
    primary key (community_id, post_id, model_version)
);

-- stale_at: a vector from an older position is to be made again.
create table member_embedding (
    community_id    bigint      not null,
    member_id       bigint      not null,
    model_version   text        not null,
    prompt_version  text        not null,
    prompt_hash     text        not null,
    source_version  bigint      not null,
    position        pg_lsn      not null,
    vector          bytea       not null,
    made_at         timestamptz not null,
    stale_at        pg_lsn,
    primary key (community_id, member_id, model_version)
);

-- The encoders of this installation. version: the name that their vectors are stored under; name:
-- what people call it. directory: where the model is; empty for the packaged one. chosen: whether a
-- person made it serve, and not the settings. served_at: when it began to serve for the last time,
-- so that a rollback knows what served before. fault: why it could not be used, in words. history: how
-- what a member liked is pooled; null: the member's prompt shows it in words.
create table encoder_version (
    version         text        primary key check (version <> ''),
    name            text        not null unique check (name <> ''),
    directory       text        not null,
    dims            integer     not null check (dims > 0),
    state           text        not null check (state in
                    ('candidate', 'embedding', 'ready', 'serving', 'retired')),
    chosen          boolean     not null default false,
    metrics         jsonb       not null default '{}',
    fault           text        not null default '',
    added_by        text        not null check (added_by <> ''),
    added_at        timestamptz not null,
    changed_by      text        not null check (changed_by <> ''),
    changed_at      timestamptz not null,
    served_at       timestamptz,
    history         jsonb
);
-- One serves, whatever is killed in the middle of a change.
create unique index encoder_version_serving on encoder_version (state) where state = 'serving';

-- The mean vector of posts and of the profiles of members, of each encoder that pools histories:
-- fp16, little endian, as vectors are. Made from a sample by whoever embeds, and followed by whoever
-- serves, so that all take the same away. posts_counted, profiles_counted: how many there were then.
create table encoder_averages (
    model_version       text        primary key check (model_version <> ''),
    posts               bytea       not null,
    profiles            bytea       not null,
    posts_counted       bigint      not null check (posts_counted >= 0),
    profiles_counted    bigint      not null check (profiles_counted >= 0),
    made_at             timestamptz not null
);

-- Trainings of the encoder that nobody asked for by hand: how far each came, and what its gate said
-- and by what. place: the folder that it writes, which tells processes apart; only one process trains.
-- engagements: how many there were when it began; the next one waits for more. against: the version
-- that served when it was judged. data, cut_at: fingerprint of the examples that it learned from, and
-- the time nothing later of which was learned. candidate: the version that came of it.
create table encoder_training (
    training_id  bigint      primary key,
    state        text        not null check (state in
                 ('exporting', 'training', 'judging', 'embedding', 'promoted', 'kept_out', 'failed')),
    began_at     timestamptz not null,
    changed_at   timestamptz not null,
    place        text        not null check (place <> ''),
    engagements  bigint      not null check (engagements >= 0),
    against      text        not null default '',
    recipe       jsonb,
    step         integer     not null default 0 check (step >= 0),
    data         text        not null default '',
    cut_at       timestamptz,
    candidate    text        not null default '',
    gate         jsonb,
    reason       text        not null default ''
);
-- One goes on at a time, whoever thinks that they may begin another.
create unique index encoder_training_one on encoder_training ((true))
    where state in ('exporting', 'training', 'judging', 'embedding');
-- The newest are asked for.
create index encoder_training_began on encoder_training (began_at desc);

create function refuse_ended_training() returns trigger language plpgsql as $$
begin
    if old.state in ('promoted', 'kept_out', 'failed') then
        raise exception 'a training that is % stays as it is', old.state
            using errcode = 'check_violation', constraint = 'encoder_training_ended',
                  table = tg_table_name;
    end if;
    return new;
end
$$;

-- What a gate has said stays said.
create trigger keep_ended before update on encoder_training
    for each row execute function refuse_ended_training();

-- A fitted scorer; the newest one serves.
create table scorer_model (
    scorer_version  text        primary key,
    fitted_at       timestamptz not null,
    examples        bigint      not null,
    model           jsonb       not null
);

-- One compressed row per served feed, in daily partitions that retention drops. It stays outside
-- the publication, so that it never delays an invalidation. post_communities, post_ids: the posts
-- that were delivered, in their order. variants: of each flag that decided something of it; a
-- column, so that what members did can be counted by it.
create table served_feed (
    community_id    bigint      not null,
    member_id       bigint      not null,
    served_feed_id  bigint      not null,
    served_at       timestamptz not null,
    surface         text        not null,
    delivered       integer     not null,
    post_communities bigint[]   not null,
    post_ids        bigint[]    not null,
    record          bytea       not null,
    variants        jsonb,
    primary key (community_id, member_id, served_feed_id, served_at)
) partition by range (served_at);

-- Makes the partitions of some days ahead; returns how many were missing. One at a time: two
-- processes that start together must not both create a table.
create function ensure_served_feed_days(first_day date, days integer) returns integer
language plpgsql as $$
declare
    made integer := 0;
    day date;
begin
    perform pg_advisory_xact_lock(hashtextextended('millrace.served_feed', 0));
    for place in 0 .. days - 1 loop
        day := first_day + place;
        if to_regclass(format('served_feed_%s', to_char(day, 'YYYYMMDD'))) is null then
            execute format('create table %I partition of served_feed for values from (%L) to (%L)',
                           'served_feed_' || to_char(day, 'YYYYMMDD'),
                           day::text || ' 00:00+00', (day + 1)::text || ' 00:00+00');
            made := made + 1;
        end if;
    end loop;
    return made;
end
$$;

-- Drops the partitions of the days before one; returns how many.
create function drop_served_feed_days(before date) returns integer language plpgsql as $$
declare
    dropped integer := 0;
    name text;
begin
    perform pg_advisory_xact_lock(hashtextextended('millrace.served_feed', 0));
    for name in
        select child.relname
          from pg_inherits
          join pg_class child on child.oid = inhrelid
         where inhparent = 'served_feed'::regclass
           and child.relname < 'served_feed_' || to_char(before, 'YYYYMMDD')
    loop
        execute format('drop table %I', name);
        dropped := dropped + 1;
    end loop;
    return dropped;
end
$$;

-- What the prompt of a vector said, from when it was stored on: by these, what was served can be
-- learned from as it was known then. A line stays in force until the next one of its thing and
-- model, so those that are in force are carried on when their day is dropped. Daily partitions, as
-- served feeds; outside the publication. facts: frozen formats, see feed/prompt_lines.py.
create table prompt_line (
    community_id    bigint      not null,
    thing_kind      text        not null check (thing_kind in ('post', 'member')),
    thing_id        bigint      not null,
    line_id         bigint      not null,
    kept_on         date        not null,
    model_version   text        not null,
    prompt_version  text        not null,
    prompt_hash     text        not null,
    position        pg_lsn      not null,
    made_at         timestamptz not null,
    stored_at       timestamptz not null,
    facts           bytea       not null,
    primary key (community_id, thing_kind, thing_id, line_id, kept_on)
) partition by range (kept_on);

-- Makes the partitions of some days ahead; returns how many were missing. One process at a time.
create function ensure_prompt_line_days(first_day date, days integer) returns integer
language plpgsql as $$
declare
    made integer := 0;
    day date;
begin
    perform pg_advisory_xact_lock(hashtextextended('millrace.prompt_line', 0));
    for place in 0 .. days - 1 loop
        day := first_day + place;
        if to_regclass(format('prompt_line_%s', to_char(day, 'YYYYMMDD'))) is null then
            execute format('create table %I partition of prompt_line for values from (%L) to (%L)',
                           'prompt_line_' || to_char(day, 'YYYYMMDD'), day, day + 1);
            made := made + 1;
        end if;
    end loop;
    return made;
end
$$;

-- Drops the partitions of the days before one; returns how many. What was in force at that day is
-- written down again under today, whose partition is there: the newest line of a thing and a model
-- that still has vectors, or had them made since.
create function drop_prompt_line_days(before date, today date) returns integer
language plpgsql as $$
declare
    dropped integer := 0;
    name text;
begin
    perform pg_advisory_xact_lock(hashtextextended('millrace.prompt_line', 0));
    insert into prompt_line (community_id, thing_kind, thing_id, line_id, kept_on, model_version,
                             prompt_version, prompt_hash, position, made_at, stored_at, facts)
    select old.community_id, old.thing_kind, old.thing_id, old.line_id, today, old.model_version,
           old.prompt_version, old.prompt_hash, old.position, old.made_at, old.stored_at, old.facts
      from prompt_line old
     where old.kept_on < before
       and not exists (
           select from prompt_line newer
            where newer.community_id = old.community_id and newer.thing_kind = old.thing_kind
              and newer.thing_id = old.thing_id and newer.model_version = old.model_version
              and (newer.line_id, newer.kept_on) > (old.line_id, old.kept_on)
              and newer.stored_at < before::timestamp at time zone 'UTC')
       and (old.model_version in (
                select model_version from prompt_line
                 where stored_at >= before::timestamp at time zone 'UTC')
            or old.thing_kind = 'post' and exists (
                select from post_embedding made
                 where made.community_id = old.community_id and made.post_id = old.thing_id
                   and made.model_version = old.model_version)
            or old.thing_kind = 'member' and exists (
                select from member_embedding made
                 where made.community_id = old.community_id and made.member_id = old.thing_id
                   and made.model_version = old.model_version));
    for name in
        select child.relname
          from pg_inherits
          join pg_class child on child.oid = inhrelid
         where inhparent = 'prompt_line'::regclass
           and child.relname < 'prompt_line_' || to_char(before, 'YYYYMMDD')
    loop
        execute format('drop table %I', name);
        dropped := dropped + 1;
    end loop;
    return dropped;
end
$$;

-- ---------------------------------------------------------------- release: flags

-- Flags and rings belong to the whole installation and to no community: a flag is one small row
-- that every process holds in memory, and every shard's members are decided by the same one. So
-- community_id is first only where a row is about a member. Versions are counted by the program
-- and not by raise_version: one that is removed and written again goes on from its trail.

-- Every change of a flag, by whom and why: the audit trail. Rows are only added. before, after:
-- JSON as it was written; empty where there was none. A ring's rule is `$ring/<track>/<ring>` here.
create table flag_change (
    change_id       bigint      primary key,
    flag_key        text        not null,
    version         bigint      not null check (version > 0),
    move            text        not null check (move in
                    ('put', 'ramp', 'kill', 'revive', 'revert', 'remove', 'import', 'rule')),
    actor           text        not null check (actor <> ''),
    reason          text        not null,
    before          text        not null,
    after           text        not null,
    owner           text        not null default '',
    request_id      bigint,
    happened_at     timestamptz not null,
    unique (flag_key, version)
);
create trigger keep_rows before update or delete on flag_change
    for each row execute function refuse_rewriting();
create trigger keep_table before truncate on flag_change
    for each statement execute function refuse_rewriting();

-- Flags as flagd writes them: text and not jsonb, so that what was written is what is read, key
-- order and numbers included. What all of them share is versioned and reviewed like a flag, so it
-- stands here too, under two keys that no flag can have.
create table flag (
    key             text        primary key check (key <> ''),
    content         text        not null check (content <> ''),
    version         bigint      not null check (version > 0),
    owner           text        not null default '',
    created_at      timestamptz not null,
    changed_at      timestamptz not null,
    constraint flag_key_is_free check (not starts_with(key, '$')
                                       or key in ('$evaluators', '$metadata'))
);

-- Refuses what the trail does not say: its line is written first, and names the version that comes.
create function refuse_untold() returns trigger language plpgsql as $$
declare
    named text := case tg_op when 'DELETE' then old.key else new.key end;
    wanted bigint := case tg_op when 'DELETE' then old.version + 1 else new.version end;
    said text := case tg_op when 'DELETE' then '' else new.content end;
begin
    if tg_op = 'UPDATE' and (new.key <> old.key or new.version <> old.version + 1)
       or not exists (select from flag_change
                       where flag_key = named and version = wanted and after = said)
       or exists (select from flag_change where flag_key = named and version > wanted) then
        raise exception '% of flag % to version % is not what its trail says', lower(tg_op), named, wanted
            using errcode = 'check_violation', constraint = 'flag_is_told', table = tg_table_name;
    end if;
    return case tg_op when 'DELETE' then old else new end;
end
$$;
create trigger tell_first before insert or update or delete on flag
    for each row execute function refuse_untold();
create trigger keep_table before truncate on flag
    for each statement execute function refuse_rewriting();

-- A change that is not made yet: it waits for a second person, for its time, or for the adoption of
-- a version (wait). content: empty to remove the flag. Nobody approves what they proposed.
create table flag_request (
    request_id      bigint      primary key,
    flag_key        text        not null,
    move            text        not null check (move in
                    ('put', 'ramp', 'revive', 'revert', 'remove', 'import')),
    content         text        not null,
    owner           text        not null,
    base_version    bigint      not null check (base_version >= 0),
    reason          text        not null,
    state           text        not null check (state in
                    ('proposed', 'approved', 'applied', 'rejected', 'cancelled', 'failed')),
    proposed_by     text        not null check (proposed_by <> ''),
    proposed_at     timestamptz not null,
    decided_by      text        not null default '',
    decided_at      timestamptz,
    due_at          timestamptz,
    wait            jsonb,
    note            text        not null default '',
    check ((decided_by = '') = (decided_at is null)),
    constraint flag_request_four_eyes check (
        decided_by <> proposed_by or state in ('rejected', 'cancelled'))
);
-- What still waits: few among all that ever did.
create index flag_request_open on flag_request (request_id)
    where state in ('proposed', 'approved');

-- Refuses to change what was proposed, and every move of its state that the drawing does not have
-- (release/README.md). Only what nobody approved goes back to be approved.
create function refuse_other_request() returns trigger language plpgsql as $$
begin
    if (old.state, new.state) not in (
           ('proposed', 'approved'), ('proposed', 'rejected'), ('proposed', 'cancelled'),
           ('approved', 'applied'), ('approved', 'failed'), ('approved', 'cancelled'),
           ('approved', 'proposed'))
       or (new.state = 'proposed' and old.decided_by <> '')
       or (old.request_id, old.flag_key, old.move, old.content, old.owner, old.base_version,
           old.reason, old.proposed_by, old.proposed_at, old.due_at, old.wait)
          is distinct from
          (new.request_id, new.flag_key, new.move, new.content, new.owner, new.base_version,
           new.reason, new.proposed_by, new.proposed_at, new.due_at, new.wait) then
        raise exception 'a request that is % does not become %', old.state, new.state
            using errcode = 'check_violation', constraint = 'flag_request_moves',
                  table = tg_table_name;
    end if;
    return new;
end
$$;
create trigger keep_request before update on flag_request
    for each row execute function refuse_other_request();
create trigger keep_rows before delete on flag_request
    for each row execute function refuse_rewriting();

-- How often flags were evaluated. Counted in memory and added here now and then, so that it costs
-- an evaluation nothing; outside the publication. errors: of the evaluations, those that failed.
create table flag_usage (
    flag_key        text        not null,
    day             date        not null,
    variant         text        not null,
    evaluations     bigint      not null,
    errors          bigint      not null,
    last_at         timestamptz not null,
    primary key (flag_key, day, variant)
);

-- Where code names flags: the newest scan of each repository, as `millrace flags references` sent
-- it. scanned_at is said by whoever searched, sent_at is ours. places: for each flag that was looked
-- for, how many places name it; read as a whole, and small. The trail is in flag_change, under
-- `$scan:<repository>`.
create table flag_scan (
    repository      text        primary key check (repository <> ''),
    scanned_at      timestamptz not null,
    sent_at         timestamptz not null,
    actor           text        not null check (actor <> ''),
    files           bigint      not null check (files >= 0),
    places          jsonb       not null
);

-- Who is in a ring of a track by name, or out of it by their own wish.
create table ring_entry (
    community_id    bigint      not null,
    member_id       bigint      not null,
    track           text        not null,
    ring            text        not null check (ring in ('employees', 'alpha', 'beta',
                    'one_percent', 'everyone')),
    choice          text        not null check (choice in ('listed', 'opted_in', 'opted_out')),
    actor           text        not null,
    chosen_at       timestamptz not null,
    primary key (community_id, member_id, track, ring)
);

-- What was done about entries of rings: their audit trail. Rows are only added. choice: empty
-- where the entry was taken away.
create table ring_change (
    community_id    bigint      not null,
    change_id       bigint      not null,
    member_id       bigint      not null,
    track           text        not null,
    ring            text        not null,
    choice          text        not null,
    actor           text        not null check (actor <> ''),
    reason          text        not null,
    happened_at     timestamptz not null,
    primary key (community_id, change_id)
);
create trigger keep_rows before update or delete on ring_change
    for each row execute function refuse_rewriting();
create trigger keep_table before truncate on ring_change
    for each statement execute function refuse_rewriting();

-- Who else is in a ring of a track: those whose attribute is one of some values, and a percentage.
create table ring_rule (
    track           text        not null,
    ring            text        not null check (ring in ('employees', 'alpha', 'beta',
                    'one_percent', 'everyone')),
    attribute       text        not null default '',
    "values"        text[]      not null default '{}',
    percentage      float8      not null default 0 check (percentage between 0 and 100),
    version         bigint      not null check (version > 0),
    changed_at      timestamptz not null,
    primary key (track, ring)
);

-- Which version of the app each member was last seen with, per track: what a ramp that waits for
-- adoption counts. Written at most hourly per member and track; outside the publication. No index
-- by time: it would be written with every row, and adoption is asked for a few times a minute.
create table member_app (
    community_id    bigint      not null,
    member_id       bigint      not null,
    track           text        not null,
    version         text        not null,
    seen_at         timestamptz not null,
    primary key (community_id, member_id, track)
);

-- ---------------------------------------------------------------- api

-- What a repeated write with the same key answers.
create table idempotency_key (
    subject         text        not null,
    key             text        not null,
    request_hash    text        not null,
    status          integer,
    headers         jsonb,
    body            bytea,
    created_at      timestamptz not null,
    primary key (subject, key)
);
-- Old keys are dropped by age.
create index idempotency_key_by_age on idempotency_key (created_at);

-- ---------------------------------------------------------------- community: who sees what

-- Whom a viewer may meet: the one rule (community/visibility.py says the same in Python). Every
-- read selects from these functions and never from the bare tables. They hold one select each, so
-- that the planner merges them into the query and still reads by key.
create function member_seen_by(viewer_role text, viewer_community bigint, viewer_member bigint)
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

-- Which posts a viewer may see.
create function post_seen_by(viewer_role text, viewer_community bigint, viewer_member bigint)
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

-- Which comments a viewer may see: of a visible post, by a visible author, not removed. A
-- moderator sees every comment under the posts of the own community.
create function comment_seen_by(viewer_role text, viewer_community bigint, viewer_member bigint)
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

-- ---------------------------------------------------------------- triggers

call make_versioned('community', 'community_id');
call make_versioned('nearby', 'neighbour_id');
call make_versioned('member', 'member_id');
call make_versioned('post', 'post_id');
call make_versioned('post_counter', 'post_id');
call make_versioned('member_counter', 'member_id');
call make_versioned('comment', 'comment_id');
call make_versioned('reaction', 'member_id', 'post_community_id', 'post_id', 'kind');
call make_versioned('follow', 'member_id', 'target_community_id', 'target_id');
call make_versioned('block', 'member_id', 'target_community_id', 'target_id');
call make_versioned('mute', 'member_id', 'target_community_id', 'target_id');
call make_versioned('moderation_case', 'case_id');

-- ---------------------------------------------------------------- the river

-- What the change stream carries: community data and what is derived from it; not the logs of the
-- feed itself.
create publication millrace for table
    community, nearby, member, post, post_counter, member_counter, comment, reaction,
    follow, block, mute, impression, engagement, tombstone,
    post_embedding, member_embedding, percentile_scale, encoder_version,
    encoder_averages;

-- What decides, for every process, in a publication of its own: a switch that is thrown does not
-- wait behind an import.
create publication millrace_flags for table flag, ring_entry, ring_rule, community;
