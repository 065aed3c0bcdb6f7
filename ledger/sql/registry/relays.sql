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
-- $1 relay, $2 points, $3 ms. Returns true if there is such a relay.
UPDATE relay SET allowance_points = $2, allowance_ms = $3 WHERE terminal_id = $1 RETURNING true
