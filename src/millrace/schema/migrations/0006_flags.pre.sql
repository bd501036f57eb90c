-- Flags and rings, and the country of a community.
alter table community add column country text not null default ''
    check (country = '' or country ~ '^[A-Z]{2}$');

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
-- (release/README.md).
create function refuse_other_request() returns trigger language plpgsql as $$
begin
    if (old.state, new.state) not in (
           ('proposed', 'approved'), ('proposed', 'rejected'), ('proposed', 'cancelled'),
           ('approved', 'applied'), ('approved', 'failed'), ('approved', 'cancelled'))
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

-- What decides, for every process, in a publication of its own: a switch that is thrown does not
-- wait behind an import.
create publication millrace_flags for table flag, ring_entry, ring_rule, community;
