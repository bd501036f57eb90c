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
