-- What was asked of the ledger under which request id: the audit log knows.

-- name: noted
-- $1 request id, $2 action. Returns the account to which this was done, or asked to be done, under this id.
SELECT coalesce(account_id, 0) FROM office.audit WHERE request_id = $1 AND action = $2 ORDER BY audit_id LIMIT 1

-- name: lock
-- $1 a number that stands for a request id.
SELECT pg_advisory_xact_lock($1)
