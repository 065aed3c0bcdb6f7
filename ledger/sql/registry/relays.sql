-- Relays: stores' own computers, which speak to headquarters over MQTT.

-- name: add
-- $1 terminal, $2 points that it may reserve for a card, 0 = none, $3 how long they may be spent, ms. Returns nothing.
INSERT INTO relay (terminal_id, allowance_points, allowance_ms) VALUES ($1, $2, $3)
