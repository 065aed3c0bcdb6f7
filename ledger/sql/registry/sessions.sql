-- Sessions of people. All times in ms since 1970.

-- name: add
-- $1 hash, $2 user, $3 now, $4 end, $5 address, $6 browser.
INSERT INTO office.session (hash, user_id, created_ms, seen_ms, expires_ms, address, agent) VALUES ($1, $2, $3, $3, $4, $5, $6)

-- name: by_hash
-- $1 hash, $2 now, $3 oldest sign of life. Returns a session in force with its user, as they are now.
SELECT s.user_id, s.created_ms, s.seen_ms, s.expires_ms, s.address, u.email, u.name, u.role, u.partner_id, u.language
FROM office.session s JOIN office.console_user u USING (user_id)
WHERE s.hash = $1 AND s.expires_ms > $2 AND s.seen_ms > $3 AND u.active

-- name: touch
-- $1 hash, $2 now.
UPDATE office.session SET seen_ms = $2 WHERE hash = $1 AND seen_ms < $2

-- name: of_user
-- $1 user, $2 now, $3 oldest sign of life. The newest first.
SELECT hash, created_ms, seen_ms, expires_ms, address, agent FROM office.session
WHERE user_id = $1 AND expires_ms > $2 AND seen_ms > $3 ORDER BY created_ms DESC, hash

-- name: remove
-- $1 hash.
DELETE FROM office.session WHERE hash = $1

-- name: remove_of_user
-- $1 user, $2 the hash of one that stays, or nothing. Returns the hashes.
DELETE FROM office.session WHERE user_id = $1 AND hash <> $2 RETURNING hash

-- name: remove_old
-- $1 now, $2 oldest sign of life, $3 most rows.
DELETE FROM office.session WHERE hash IN (
    SELECT hash FROM office.session WHERE expires_ms <= $1 OR seen_ms <= $2 LIMIT $3 FOR UPDATE SKIP LOCKED
)
