-- name: one_snapshot
-- From now on every statement of the transaction sees the same moment, and writes nothing.
set transaction isolation level repeatable read, read only

-- name: unhurried
-- A comparison of everything may run for longer than a request.
set local statement_timeout = 0
