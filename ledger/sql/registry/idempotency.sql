-- POST requests by their Idempotency-Key. All times in ms since 1970; a `claim` is the lot that whoever works on a request drew.

-- name: lock
-- $1 a number of the key. Returns whether this transaction is now alone with it.
SELECT pg_try_advisory_xact_lock($1)

-- name: find
-- $1 actor, $2 key, $3 oldest moment that is remembered.
SELECT fingerprint, claimed_ms, status, answer FROM office.idempotency WHERE actor = $1 AND key = $2 AND at_ms >= $3

-- name: claim
-- $1 actor, $2 key, $3 fingerprint, $4 now, $5 claim. Puts the row there, or takes it over.
INSERT INTO office.idempotency (actor, key, fingerprint, at_ms, claim, claimed_ms) VALUES ($1, $2, $3, $4, $5, $4)
ON CONFLICT (actor, key) DO UPDATE
SET fingerprint = $3, at_ms = $4, claim = $5, claimed_ms = $4, status = NULL, answer = NULL

-- name: finish
-- $1 actor, $2 key, $3 claim, $4 status, $5 answer. Does nothing when another one took over.
UPDATE office.idempotency SET status = $4, answer = $5 WHERE actor = $1 AND key = $2 AND claim = $3 AND status IS NULL

-- name: keep
-- $1 actor, $2 key, $3 claim, $4 now: whoever has this claim is still at work.
UPDATE office.idempotency SET claimed_ms = $4 WHERE actor = $1 AND key = $2 AND claim = $3 AND status IS NULL

-- name: release
-- $1 actor, $2 key, $3 claim.
UPDATE office.idempotency SET claimed_ms = 0 WHERE actor = $1 AND key = $2 AND claim = $3 AND status IS NULL

-- name: remove
-- $1 actor, $2 key, $3 claim.
DELETE FROM office.idempotency WHERE actor = $1 AND key = $2 AND claim = $3 AND status IS NULL

-- name: remove_old
-- $1 oldest moment that is remembered, $2 most rows.
DELETE FROM office.idempotency WHERE (actor, key) IN (
    SELECT actor, key FROM office.idempotency WHERE at_ms < $1 ORDER BY at_ms LIMIT $2 FOR UPDATE SKIP LOCKED
)
