-- name: encoder_trainings
-- The newest trainings of the encoder, each with the name of what came of it where that is there.
select training.*, coalesce(version.name, '') as candidate_name
  from encoder_training training
  left join encoder_version version on version.version = training.candidate
 order by training.began_at desc, training.training_id desc
 limit %(limit)s

-- name: insert_encoder_training
-- Begins a training; the unique index refuses a second one that goes on.
insert into encoder_training (training_id, state, began_at, changed_at, place, engagements, against)
values (%(training_id)s, 'exporting', %(now)s, %(now)s, %(place)s, %(engagements)s, %(against)s)

-- name: move_encoder_training
-- Moves a training on, with what is known now; touches no row where somebody else moved it.
update encoder_training
   set state = %(state)s, changed_at = %(now)s,
       recipe = coalesce(%(recipe)s::jsonb, recipe), data = coalesce(%(data)s::text, data),
       cut_at = coalesce(%(cut_at)s::timestamptz, cut_at),
       against = coalesce(%(against)s::text, against),
       candidate = coalesce(%(candidate)s::text, candidate),
       gate = coalesce(%(gate)s::jsonb, gate), reason = coalesce(%(reason)s::text, reason)
 where training_id = %(training_id)s and state = %(before)s

-- name: note_step_of_training
-- How many steps a training has taken.
update encoder_training
   set step = %(step)s, changed_at = %(now)s
 where training_id = %(training_id)s and state = 'training'

-- name: count_engagements
-- How many engagements are old enough to be answers, up to a limit: more is not asked for.
select count(*)
  from (select from engagement
         where kind = any(%(kinds)s::text[]) and happened_at < %(before)s
         limit %(limit)s) as counted

-- name: count_texts
-- How many posts and members a new encoder would have to embed.
select (select count(*) from post where removed_at is null)
     + (select count(*) from (select distinct community_id, member_id
                                from member_embedding) as known)
