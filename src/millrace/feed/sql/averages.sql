-- name: encoder_averages
-- The averages of every encoder that has some: a few rows.
select model_version, posts, profiles, posts_counted, profiles_counted, made_at
  from encoder_averages

-- name: keep_averages
-- Keeps the averages of an encoder, unless newer ones are there.
insert into encoder_averages (model_version, posts, profiles, posts_counted, profiles_counted, made_at)
values (%(model_version)s, %(posts)s, %(profiles)s, %(posts_counted)s, %(profiles_counted)s,
        %(made_at)s)
    on conflict (model_version) do update
       set posts = excluded.posts, profiles = excluded.profiles,
           posts_counted = excluded.posts_counted, profiles_counted = excluded.profiles_counted,
           made_at = excluded.made_at
     where encoder_averages.made_at <= excluded.made_at

-- name: count_vectors
-- How many vectors of an encoder there are.
select (select count(*) from post_embedding where model_version = %(model_version)s) as posts,
       (select count(*) from member_embedding where model_version = %(model_version)s) as profiles

-- name: sample_posts
-- Vectors of posts of an encoder, from so many of a hundred blocks of the table.
select vector from post_embedding tablesample system (%(percent)s)
 where model_version = %(model_version)s
 limit %(limit)s

-- name: sample_profiles
-- The same of members.
select vector from member_embedding tablesample system (%(percent)s)
 where model_version = %(model_version)s
 limit %(limit)s

-- name: drop_averages
-- Those of encoders that are retired.
delete from encoder_averages
 where model_version in (select version from encoder_version
                          where state = 'retired' and changed_at <= %(before)s
                          limit %(limit)s)

-- name: history_in_words
-- Whether the prompts of members show their history with any encoder whose vectors are made.
select exists (select from encoder_version where history is null and state <> 'retired')
