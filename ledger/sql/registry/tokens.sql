-- Tokens of programs. All times in ms since 1970.

-- name: token_by_hash
-- $1 SHA-256 of the token, $2 now. Returns a token that is in force.
SELECT token_id, name, permissions, partner_id, person, used_ms FROM office.api_token
WHERE hash = $1 AND expires_ms > $2 AND revoked_ms IS NULL

-- name: touch_token
-- $1 id, $2 now, $3 when its last use must lie back for this one to be noted.
UPDATE office.api_token SET used_ms = $2 WHERE token_id = $1 AND (used_ms IS NULL OR used_ms < $3)

-- name: add_token
-- $1 hash, $2 name, $3 permissions, $4 partner or null, $5 actor, $6 the person behind that, $7 now, $8 end. Returns its id.
INSERT INTO office.api_token (hash, name, permissions, partner_id, created_by, person, created_ms, expires_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING token_id

-- name: list_tokens
-- $1 partner or null for all, $2 begin before this id, $3 most rows. The newest first.
SELECT token_id, name, permissions, partner_id, created_by, created_ms, expires_ms, revoked_ms, used_ms FROM office.api_token
WHERE ($1::integer IS NULL OR partner_id = $1) AND token_id < $2::bigint ORDER BY token_id DESC LIMIT $3

-- name: token
-- $1 id.
SELECT token_id, name, permissions, partner_id, created_by, created_ms, expires_ms, revoked_ms, used_ms FROM office.api_token
WHERE token_id = $1

-- name: revoke_token
-- $1 id, $2 now. Keeps the moment of the first time.
UPDATE office.api_token SET revoked_ms = coalesce(revoked_ms, $2) WHERE token_id = $1

-- name: revoke_tokens_of
-- $1 actor, $2 now, $3 permissions that may stay. Revokes what the actor made, and what was made with that, if it may do more.
-- Returns the ids.
WITH RECURSIVE made AS (
    SELECT token_id, permissions, revoked_ms FROM office.api_token WHERE created_by = $1
    UNION
    SELECT t.token_id, t.permissions, t.revoked_ms FROM office.api_token t JOIN made m ON t.created_by = 'token:' || m.token_id
)
UPDATE office.api_token t SET revoked_ms = $2 FROM made m
WHERE t.token_id = m.token_id AND m.revoked_ms IS NULL AND NOT m.permissions <@ $3 RETURNING t.token_id

-- name: standing_token
-- $1 id, $2 now. Returns the end of a token that is in force, which stays so until the transaction ends.
SELECT expires_ms FROM office.api_token WHERE token_id = $1 AND expires_ms > $2 AND revoked_ms IS NULL FOR SHARE
