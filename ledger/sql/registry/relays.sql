-- Relays and the conflicts that they bring home. What a bridge reads and writes all the time is in ledger/sql/.

-- name: add
-- $1 terminal, $2 points that may be reserved for a card, $3 ms in which they may be spent. Returns the key's generation.
INSERT INTO relay (terminal_id, allowance_points, allowance_ms) VALUES ($1, $2, $3) RETURNING generation

-- name: rotate
-- $1 relay. Returns the generation of its new key, nothing if it is none or revoked.
UPDATE relay SET generation = generation + 1
WHERE terminal_id = $1 AND EXISTS (SELECT FROM terminal t WHERE t.terminal_id = $1 AND t.revoked_ms IS NULL)
RETURNING generation

-- name: set_allowance
-- $1 relay, $2 points or null, $3 ms or null. Null leaves it. Returns true unless there is no such relay or it is revoked.
UPDATE relay SET allowance_points = coalesce($2, allowance_points), allowance_ms = coalesce($3, allowance_ms)
WHERE terminal_id = $1 AND EXISTS (SELECT FROM terminal t WHERE t.terminal_id = $1 AND t.revoked_ms IS NULL)
RETURNING true

-- name: lock_store
-- $1 store. Nobody else gives it a relay until the transaction ends.
SELECT FROM store WHERE store_id = $1 FOR NO KEY UPDATE

-- name: standing
-- $1 store. Returns the code of its relay, unless there is none that is not revoked.
SELECT t.code FROM relay r JOIN terminal t USING (terminal_id) WHERE t.store_id = $1 AND t.revoked_ms IS NULL LIMIT 1

-- name: find
-- $1 after this id, $2 at most so many, $3 only this partner's, $4 only this network's, $5 only this store's, $6 only this one,
-- $7 part of its code or of its store's name, $8 only those that should work and were not heard since this moment. Null filters nothing.
SELECT * FROM (
    SELECT r.terminal_id AS relay_id, t.code, t.store_id, s.name AS store, s.network_id, n.name AS network, n.partner_id, t.revoked_ms,
        CASE WHEN t.revoked_ms IS NOT NULL THEN 'revoked' WHEN t.active THEN 'active' ELSE 'suspended' END AS state,
        t.active AND s.active AND n.active AND p.active AS works,
        r.generation, r.allowance_points, r.allowance_ms, r.software, r.heard_ms, r.queued, r.oldest_ms, r.offline_since_ms,
        (SELECT count(*) FROM office.conflict c WHERE c.relay_id = r.terminal_id AND c.settled_ms IS NULL) AS conflicts
    FROM relay r JOIN terminal t USING (terminal_id) JOIN store s USING (store_id) JOIN network n USING (network_id) JOIN partner p USING (partner_id)
) found
WHERE relay_id > $1 AND ($3::integer IS NULL OR partner_id = $3) AND ($4::integer IS NULL OR network_id = $4)
    AND ($5::integer IS NULL OR store_id = $5) AND ($6::integer IS NULL OR relay_id = $6)
    AND ($7::text IS NULL OR strpos(lower(code), lower($7)) > 0 OR strpos(lower(store), lower($7)) > 0)
    AND ($8::bigint IS NULL OR (works AND coalesce(heard_ms, 0) < $8))
ORDER BY relay_id LIMIT $2
