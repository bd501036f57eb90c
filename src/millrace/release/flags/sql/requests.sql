-- name: insert_request
-- A change that waits.
insert into flag_request (request_id, flag_key, move, content, owner, base_version, reason, state,
                          proposed_by, proposed_at, due_at, wait)
values (%(id)s, %(key)s, %(move)s, %(content)s, %(owner)s, %(base_version)s, %(reason)s, %(state)s,
        %(actor)s, %(now)s, %(due_at)s::timestamptz, %(wait)s::jsonb)

-- name: requests
-- Requests, newest first; those of some states or of one flag where they are named.
select request_id as id, flag_key as key, move, content, owner, base_version, reason, state,
       proposed_by, proposed_at, decided_by, decided_at, due_at, wait, note
  from flag_request
 where (%(states)s::text[] is null or state = any(%(states)s))
   and (%(key)s::text is null or flag_key = %(key)s)
   and (%(before)s::bigint is null or request_id < %(before)s)
 order by request_id desc
 limit %(limit)s

-- name: request
-- One request.
select request_id as id, flag_key as key, move, content, owner, base_version, reason, state,
       proposed_by, proposed_at, decided_by, decided_at, due_at, wait, note
  from flag_request
 where request_id = %(id)s

-- name: hold_request
-- One request, which nobody else decides or carries out until the transaction ends.
select request_id as id, flag_key as key, move, content, owner, base_version, reason, state,
       proposed_by, proposed_at, decided_by, decided_at, due_at, wait, note
  from flag_request
 where request_id = %(id)s
   for update

-- name: due_requests
-- What may be carried out by its time, the oldest version of each flag first.
select request_id as id, flag_key as key, move, content, owner, base_version, reason, state,
       proposed_by, proposed_at, decided_by, decided_at, due_at, wait, note
  from flag_request
 where state = 'approved' and (due_at is null or due_at <= %(now)s)
 order by flag_key, base_version, request_id
 limit %(limit)s

-- name: makes_version
-- Whether an open request makes a version of a flag: then another may be made from that one.
select exists (
       select from flag_request
        where flag_key = %(key)s and base_version = %(base_version)s
          and state in ('proposed', 'approved'))

-- name: has_its_base
-- Whether the version that a request was made from is the one its author meant: it stood when they
-- asked, or was made by the request before it. One that a kill made in between is another.
select not exists (
       select from flag_change made
        where made.flag_key = %(key)s and made.version = %(base_version)s
          and made.change_id > %(id)s
          and made.request_id is distinct from (
              select max(before.request_id) from flag_request before
               where before.flag_key = %(key)s and before.base_version = %(base_version)s - 1
                 and before.request_id < %(id)s))

-- name: unapproved
-- Whether there is a change that is to be made without anybody having approved it: it was asked for
-- while nobody had to.
select exists (select from flag_request where state = 'approved' and decided_by = '')

-- name: propose_again
-- Let what nobody approved wait for approval, all of it or one request.
update flag_request set state = 'proposed'
 where state = 'approved' and decided_by = ''
   and (%(id)s::bigint is null or request_id = %(id)s)

-- name: decide_request
-- What somebody decided about a request.
update flag_request
   set state = %(state)s, decided_by = %(actor)s, decided_at = %(now)s, note = %(note)s
 where request_id = %(id)s

-- name: end_request
-- What became of a request that was carried out, or could not be.
update flag_request set state = %(state)s, note = %(note)s where request_id = %(id)s

-- name: lead_requests
-- One process at a time carries out what is due; the others do not wait for it.
select pg_try_advisory_xact_lock(hashtextextended('millrace.flag_requests', 0)) as leads

-- name: open_requests
-- How many changes wait; their number is bounded.
select count(*) from flag_request where state in ('proposed', 'approved')
