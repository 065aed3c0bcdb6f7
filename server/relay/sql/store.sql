-- name: answer_add
INSERT INTO answer (request_id, fingerprint, card, target, body) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING

-- name: answer_find
SELECT fingerprint, body, card FROM answer WHERE request_id = ?

-- name: answer_all
SELECT request_id, card, target, fate FROM answer

-- name: answer_finish
UPDATE answer SET fate = ?, answered_ms = ? WHERE request_id = ? AND fate = 0 RETURNING card, target

-- name: answer_forget
DELETE FROM answer WHERE answered_ms < ? RETURNING request_id, card, target

-- name: queued_add
INSERT INTO queued (request_id, lane, terminal, message, sale_ms, taken_ms, hold_id)
VALUES (:request_id, coalesce((SELECT lane FROM queued WHERE request_id = :target), :card), :terminal, :message, :sale_ms, :taken_ms, :hold_id)

-- name: queued_after
SELECT seq, request_id, lane, terminal, message, sale_ms, hold_id FROM queued WHERE seq > ? ORDER BY seq LIMIT ?

-- name: queued_taken
SELECT request_id, taken_ms FROM queued ORDER BY seq

-- name: queued_drop
DELETE FROM queued WHERE request_id = ? RETURNING terminal, message, sale_ms, hold_id

-- name: conflict_add
INSERT INTO conflict (request_id, terminal, op, masked, points, amount, currency, reference, sale_ms, answered_ms, outcome, error)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING

-- name: conflict_trim
DELETE FROM conflict WHERE conflict_id <= (SELECT conflict_id FROM conflict ORDER BY conflict_id DESC LIMIT 1 OFFSET ?)

-- name: conflict_count
SELECT count(*) FROM conflict

-- name: conflict_list
SELECT request_id, terminal, op, masked, points, amount, currency, reference, sale_ms, answered_ms, outcome, error
FROM conflict ORDER BY conflict_id DESC LIMIT ?

-- name: balance_put
INSERT INTO balance VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (card) DO UPDATE SET available = excluded.available, held = excluded.held, pending = excluded.pending, owed = excluded.owed,
    expiring_points = excluded.expiring_points, expiring_on = excluded.expiring_on, at_ms = excluded.at_ms

-- name: balance_find
SELECT available, held, pending, owed, expiring_points, expiring_on, at_ms FROM balance WHERE card = ?

-- name: balance_trim
DELETE FROM balance WHERE card IN (SELECT card FROM balance ORDER BY at_ms LIMIT max(0, (SELECT count(*) FROM balance) - ?))

-- name: allowance_add
INSERT INTO allowance (hold_id, card, kind, value, state, points, from_ms, until_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: allowance_change
UPDATE allowance SET state = ?, points = ?, from_ms = ?, until_ms = ? WHERE hold_id = ? AND state <> 2

-- name: allowance_turn
UPDATE allowance SET state = ? WHERE hold_id = ? AND state = ?

-- name: allowance_drop
DELETE FROM allowance WHERE hold_id = ?

-- name: allowance_all
SELECT card, hold_id, kind, value, state, points, from_ms, until_ms FROM allowance

-- name: allowance_count
SELECT state, count(*) FROM allowance GROUP BY state

-- name: kept_put
INSERT INTO kept (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value

-- name: kept_all
SELECT name, value FROM kept

-- name: summary
SELECT (SELECT count(*) FROM queued), (SELECT taken_ms FROM queued ORDER BY seq LIMIT 1), (SELECT count(*) FROM answer), (SELECT count(*) FROM conflict)
