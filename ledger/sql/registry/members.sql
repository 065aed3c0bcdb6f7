-- Members: personal data, what finds them, what was changed. All of it is encrypted or hashed.

-- name: member
-- $1 account. Returns what is stored of its member.
SELECT account_id, data, greeting, version, created_ms, changed_ms, erased_ms FROM personal.member WHERE account_id = $1

-- name: member_for_change
-- $1 account. Like `member`, locked.
SELECT account_id, data, greeting, version, created_ms, changed_ms, erased_ms FROM personal.member WHERE account_id = $1 FOR UPDATE

-- name: members
-- $1 accounts. Returns what is stored of those that have a member.
SELECT account_id, data, greeting, erased_ms FROM personal.member WHERE account_id = ANY ($1::bigint[])

-- name: add_member
-- $1 account, $2 data, $3 greeting or null, $4 now. An account of which only a greeting is known gets its data. Returns null if it has a member.
INSERT INTO personal.member AS m (account_id, data, greeting, created_ms, changed_ms) VALUES ($1, $2, $3, $4, $4)
ON CONFLICT (account_id) DO UPDATE
    SET data = excluded.data, greeting = excluded.greeting, created_ms = excluded.created_ms, changed_ms = excluded.changed_ms
    WHERE m.data IS NULL AND m.erased_ms IS NULL
RETURNING account_id

-- name: change_member
-- $1 account, $2 data, $3 greeting or null, $4 now. Returns the new version.
UPDATE personal.member SET data = $2, greeting = $3, changed_ms = $4, version = version + 1 WHERE account_id = $1 RETURNING version

-- name: add_lookups
-- $1 account, $2 kinds, $3 hashes.
INSERT INTO personal.lookup (account_id, kind, hash) SELECT $1, given.* FROM unnest($2::smallint[], $3::bytea[]) AS given ON CONFLICT DO NOTHING

-- name: remove_lookups
-- $1 account, $2 kinds, $3 hashes.
DELETE FROM personal.lookup USING unnest($2::smallint[], $3::bytea[]) AS given (kind, hash)
WHERE lookup.account_id = $1 AND lookup.kind = given.kind AND lookup.hash = given.hash

-- name: find
-- $1 kinds, $2 hashes, $3 at most so many. Returns accounts.
SELECT DISTINCT account_id FROM personal.lookup JOIN unnest($1::smallint[], $2::bytea[]) AS given (kind, hash) USING (kind, hash)
ORDER BY account_id LIMIT $3

-- name: add_change
-- $1 account, $2 now, $3 actor, $4 store or null, $5 fields, $6 what they were, encrypted, or null.
INSERT INTO personal.change (account_id, at_ms, actor, store_id, fields, before) VALUES ($1, $2, $3, $4, $5, $6)

-- name: changes
-- $1 account, $2 at most so many. Newest first.
SELECT c.change_id, c.at_ms, c.actor, c.store_id, s.name AS store_name, c.fields, c.before,
    (SELECT a.actor_name FROM office.audit a WHERE a.actor = c.actor ORDER BY a.audit_id DESC LIMIT 1) AS actor_name
FROM personal.change c LEFT JOIN store s USING (store_id)
WHERE c.account_id = $1 ORDER BY c.change_id DESC LIMIT $2

-- name: erase_member
-- $1 account, $2 now. Forgets everything that was told, and keeps that there was somebody.
UPDATE personal.member SET data = NULL, greeting = NULL, erased_ms = $2, changed_ms = $2, version = version + 1 WHERE account_id = $1 AND erased_ms IS NULL

-- name: erase_lookups
-- $1 account.
DELETE FROM personal.lookup WHERE account_id = $1

-- name: erase_changes
-- $1 account. What it was before, also of accounts that were merged into it.
WITH RECURSIVE merged AS (
    SELECT $1::bigint AS account_id
    UNION
    SELECT m.source FROM office.merge m JOIN merged ON m.target = merged.account_id
)
UPDATE personal.change c SET before = NULL FROM merged WHERE c.account_id = merged.account_id AND c.before IS NOT NULL

-- name: erase_masked
-- $1 account. Kind 5: tokens that somebody may have chosen.
UPDATE card SET masked = 'virtual:***' WHERE account_id = $1 AND kind = 5

-- name: erase_tokens
-- $1 account.
DELETE FROM office.member_token WHERE account_id = $1

-- name: phone_cards
-- $1 account. Cards that are phone numbers; locked, so that nothing changes them before the transaction ends.
SELECT token, status, masked FROM card WHERE account_id = $1 AND kind = 4 ORDER BY made_ms, token FOR UPDATE

-- name: remove_member
-- $1 account. Its lookups go with it.
DELETE FROM personal.member WHERE account_id = $1

-- name: move_lookups
-- $1 from an account, $2 to another one.
INSERT INTO personal.lookup (account_id, kind, hash) SELECT $2, kind, hash FROM personal.lookup WHERE account_id = $1 ON CONFLICT DO NOTHING
