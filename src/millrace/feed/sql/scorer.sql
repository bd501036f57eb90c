-- name: newest_scorer
-- The scorer that serves.
select model from scorer_model order by fitted_at desc, scorer_version desc limit 1

-- name: insert_scorer
-- Keeps a fitted scorer; the newest one serves.
insert into scorer_model (scorer_version, fitted_at, examples, model)
values (%(scorer_version)s, %(fitted_at)s, %(examples)s, %(model)s)
    on conflict (scorer_version) do nothing

-- name: scorer_named
-- A scorer that a flag names.
select model from scorer_model where scorer_version = %(scorer_version)s
