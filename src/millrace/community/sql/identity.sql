-- name: signing_key
-- One signing key.
select key_id, private_pem, public_pem, created_at, retired_at
  from signing_key
 where key_id = %(key_id)s

-- name: newest_signing_key
-- The key that signs.
select key_id, private_pem, public_pem, created_at, retired_at
  from signing_key
 where retired_at is null
 order by created_at desc, key_id
 limit 1

-- name: signing_keys
-- Every key, the newest first.
select key_id, private_pem, public_pem, created_at, retired_at
  from signing_key
 order by created_at desc, key_id

-- name: lock_signing_keys
-- One process at a time makes or rotates keys; released at the end of the transaction.
select pg_advisory_xact_lock(hashtextextended('millrace.signing', 0))

-- name: insert_signing_key
-- Keeps a new key.
insert into signing_key (key_id, algorithm, private_pem, public_pem, created_at)
values (%(key_id)s, %(algorithm)s, %(private_pem)s, %(public_pem)s, %(created_at)s)

-- name: retire_signing_keys
-- The older keys sign no more.
update signing_key set retired_at = %(now)s where retired_at is null

-- name: delete_signing_keys
-- Keys whose last token has expired.
delete from signing_key where retired_at <= %(retired_before)s

-- name: revocation
-- Whether a token is revoked.
select reason from revoked_token where token_id = %(token_id)s

-- name: insert_revocation
-- Revokes a token, once.
insert into revoked_token (token_id, subject, revoked_at, revoked_by, reason, expires_at)
values (%(token_id)s, %(subject)s, %(now)s, %(by)s, %(reason)s, %(expires_at)s)
    on conflict do nothing

-- name: delete_revocations
-- Revocations of tokens that have expired anyway.
delete from revoked_token where expires_at < %(now)s

-- name: standing_of_token
-- Whatever may end a member's token whose signature held before, in one look; no row without its key.
select key.retired_at as key_retired_at, revoked.token_id is not null as revoked,
       member.role, member.removed_at as ended_at, member.banned_at, member.banned_reason
  from signing_key key
  left join revoked_token revoked on revoked.token_id = %(token_id)s
  left join member
    on member.community_id = %(community_id)s and member.member_id = %(member_id)s
 where key.key_id = %(key_id)s

-- name: member_standing
-- What a member may do now; no row when there is none.
select role, removed_at as ended_at, banned_at, banned_reason
  from member
 where community_id = %(community_id)s and member_id = %(member_id)s

-- name: operator_standing
-- What an operator may do now; no row when there is none.
select role, disabled_at as ended_at, null as banned_at, null as banned_reason
  from operator_account
 where name = %(name)s

-- name: ended_subjects
-- Which of some members and operators may do nothing any more, or never were.
select 'member:' || asked.community_id || '-' || asked.member_id as subject
  from unnest(%(communities)s::bigint[], %(members)s::bigint[]) as asked (community_id, member_id)
  left join member using (community_id, member_id)
 where member.joined_at is null or member.removed_at is not null or member.banned_at is not null
 union all
select 'operator:' || asked.name
  from unnest(%(operators)s::text[]) as asked (name)
  left join operator_account using (name)
 where operator_account.created_at is null or operator_account.disabled_at is not null

-- name: insert_operator
-- Makes an operator account, or nothing where the name is taken.
insert into operator_account (name, role, created_at)
values (%(name)s, %(role)s, %(now)s)
    on conflict do nothing

-- name: disable_operator
-- Ends an operator account, once.
update operator_account
   set disabled_at = %(now)s, disabled_by = %(by)s, disabled_reason = %(reason)s
 where name = %(name)s and disabled_at is null

-- name: member_of_provider
-- The member whom an identity provider calls by this name.
select member.community_id, member.member_id
  from member
  join community using (community_id)
 where community.external_id = %(community)s and member.external_id = %(subject)s
