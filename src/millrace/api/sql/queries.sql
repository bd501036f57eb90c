-- name: answers
-- Whether the database answers.
select 1

-- name: claim_key
-- Begin a request under a key. A key older than the keeping time counts as unused. No row: in use.
insert into idempotency_key (subject, key, request_hash, created_at)
values (%(subject)s, %(key)s, %(request_hash)s, %(now)s)
on conflict (subject, key) do update
    set request_hash = excluded.request_hash, status = null, headers = null, body = null,
        created_at = excluded.created_at
  where idempotency_key.created_at < %(expired)s
     or (idempotency_key.status is null and idempotency_key.request_hash = excluded.request_hash
         and %(abandoned)s)
returning key

-- name: kept_answer
-- What is known of a key.
select request_hash, status, headers, body, created_at
  from idempotency_key where subject = %(subject)s and key = %(key)s

-- name: keep_answer
-- The answer that repetitions get.
update idempotency_key
   set status = %(status)s, headers = %(headers)s, body = %(body)s
 where subject = %(subject)s and key = %(key)s and request_hash = %(request_hash)s

-- name: free_key
-- The request changed nothing, so the key may be used again.
delete from idempotency_key
 where subject = %(subject)s and key = %(key)s and status is null

-- name: drop_old_keys
-- Answers are kept for a day; a bounded number goes at a time.
delete from idempotency_key
 where (subject, key) in (
       select subject, key from idempotency_key
        where created_at < %(expired)s order by created_at limit 1000)
