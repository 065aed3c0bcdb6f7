-- Tokens of members, with which the site or the app of a chain shows one member his own account. All times in ms since 1970.

-- name: by_hash
-- $1 SHA-256 of the token, $2 now. Returns the account of a token that is in force. With the member's erasure, or the account's merging into another
-- one, it is in force no longer.
SELECT account_id FROM office.member_token t WHERE hash = $1 AND expires_ms > $2
    AND NOT EXISTS (SELECT FROM personal.member m WHERE m.account_id = t.account_id AND m.erased_ms IS NOT NULL)
    AND NOT EXISTS (SELECT FROM office.merge g WHERE g.source = t.account_id AND g.state IN ('out', 'done'))

-- name: account
-- $1 account. Returns a row if there is such an account: whether it still has a member, or might.
SELECT NOT EXISTS (SELECT FROM personal.member m WHERE m.account_id = a.account_id AND m.erased_ms IS NOT NULL)
    AND NOT EXISTS (SELECT FROM office.merge g WHERE g.source = a.account_id AND g.state IN ('out', 'done')) AS live
FROM account a WHERE a.account_id = $1

-- name: add
-- $1 hash, $2 account, $3 actor, $4 now, $5 end.
INSERT INTO office.member_token (hash, account_id, created_by, created_ms, expires_ms) VALUES ($1, $2, $3, $4, $5)

-- name: remove_expired
-- $1 now, $2 most rows.
DELETE FROM office.member_token WHERE hash IN (
    SELECT hash FROM office.member_token WHERE expires_ms <= $1 ORDER BY expires_ms LIMIT $2 FOR UPDATE SKIP LOCKED
)

-- name: remove_of_account
-- $1 account. Returns the hashes.
DELETE FROM office.member_token WHERE account_id = $1 RETURNING hash
