-- Tokens of programs. All times in ms since 1970.

-- name: token_by_hash
-- $1 SHA-256 of the token, $2 now. Returns a token that is in force.
SELECT token_id, name, permissions, partner_id FROM office.api_token
WHERE hash = $1 AND expires_ms > $2 AND revoked_ms IS NULL

-- name: add_token
-- $1 hash, $2 name, $3 permissions, $4 partner or null, $5 actor, $6 now, $7 end. Returns its id.
INSERT INTO office.api_token (hash, name, permissions, partner_id, created_by, created_ms, expires_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING token_id
