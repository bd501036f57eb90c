-- name: operators
-- Every operator account, active ones first: who runs this installation.
select name, role, created_at, disabled_at, disabled_by, disabled_reason
  from operator_account
 order by disabled_at is not null, name
