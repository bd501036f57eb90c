-- name: newest_scorer
-- The newest scorer for the vectors of an encoder; one without a lens is for those of any.
select model
  from scorer_model
 where coalesce(model -> 'lens' ->> 'encoder', %(encoder)s) = %(encoder)s
 order by fitted_at desc, scorer_version desc
 limit 1

-- name: insert_scorer
-- Keeps a fitted scorer; the newest one serves.
insert into scorer_model (scorer_version, fitted_at, examples, model)
values (%(scorer_version)s, %(fitted_at)s, %(examples)s, %(model)s)
    on conflict (scorer_version) do nothing

-- name: scorer_named
-- A scorer that a flag names.
select model from scorer_model where scorer_version = %(scorer_version)s
