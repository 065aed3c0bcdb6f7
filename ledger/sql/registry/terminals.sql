-- Cash registers and their keys. One that is revoked has keys that nothing opens, and its code stays taken.

-- name: add
-- $1 code, $2 store, $3 permitted operation codes, $4 salt, $5 iterations, $6 stored key, $7 server key. Returns its id.
INSERT INTO terminal (code, store_id, permitted, salt, iterations, stored_key, server_key) VALUES ($1, $2, $3, $4, $5, $6, $7)
RETURNING terminal_id

-- name: find
-- $1 after this id, $2 at most so many, $3 only this partner's, $4 only this network's, $5 only this store's, $6 only this one,
-- $7 part of the code, $8 state: active, suspended or revoked, $9 true: relays, false: all others. Null filters nothing. A terminal works if everything above it is active, too.
SELECT * FROM (
    SELECT t.terminal_id, t.code, t.store_id, s.name AS store, s.network_id, n.name AS network, n.partner_id, t.permitted, t.revoked_ms,
        CASE WHEN t.revoked_ms IS NOT NULL THEN 'revoked' WHEN t.active THEN 'active' ELSE 'suspended' END AS state,
        t.active AND s.active AND n.active AND p.active AS works, r.terminal_id IS NOT NULL AS relay
    FROM terminal t JOIN store s USING (store_id) JOIN network n USING (network_id) JOIN partner p USING (partner_id)
        LEFT JOIN relay r USING (terminal_id)
) found
WHERE terminal_id > $1 AND ($3::integer IS NULL OR partner_id = $3) AND ($4::integer IS NULL OR network_id = $4)
    AND ($5::integer IS NULL OR store_id = $5) AND ($6::integer IS NULL OR terminal_id = $6)
    AND ($7::text IS NULL OR strpos(lower(code), lower($7)) > 0) AND ($8::text IS NULL OR state = $8)
    AND ($9::boolean IS NULL OR relay = $9)
ORDER BY terminal_id LIMIT $2

-- name: lock
-- $1 store. Returns the ids of its terminals that are not revoked, locked in this order, so that two who change several do not wait for each other.
SELECT terminal_id FROM terminal WHERE store_id = $1 AND revoked_ms IS NULL ORDER BY terminal_id FOR UPDATE

-- name: set_permitted
-- $1 terminal, $2 operation codes. Returns true unless it is revoked.
UPDATE terminal SET permitted = $2 WHERE terminal_id = $1 AND revoked_ms IS NULL RETURNING true

-- name: set_active
-- $1 terminals, $2 active. Returns the ids of those that are not revoked.
UPDATE terminal SET active = $2 WHERE terminal_id = ANY($1::integer[]) AND revoked_ms IS NULL RETURNING terminal_id

-- name: renew
-- $1 code, $2 salt, $3 iterations, $4 stored key, $5 server key. Returns true unless there is none or it is revoked.
UPDATE terminal SET salt = $2, iterations = $3, stored_key = $4, server_key = $5 WHERE code = $1 AND revoked_ms IS NULL RETURNING true

-- name: revoke
-- $1 terminal, $2 now, $3 salt, $4 and $5 random bytes in the place of its keys. Returns true unless it was revoked before.
UPDATE terminal SET active = false, revoked_ms = $2, salt = $3, stored_key = $4, server_key = $5
WHERE terminal_id = $1 AND revoked_ms IS NULL RETURNING true

-- name: permitted_in
-- $1 partner. Returns the operation codes that any of its terminals may use, suspended ones among them.
SELECT DISTINCT unnest(t.permitted) AS code FROM terminal t JOIN store s USING (store_id) JOIN network n USING (network_id)
WHERE n.partner_id = $1 AND t.revoked_ms IS NULL
