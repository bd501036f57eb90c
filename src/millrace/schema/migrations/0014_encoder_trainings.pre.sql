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
