-- $1 request ids, $2 relays, $3 terminals, $4 tokens (null without one), $5 operations, $6 outcomes, $7 masked cards, $8 points, $9 amounts,
-- $10 currencies, $11 references, $12 times of sale, $13 now: what must be looked at by people. What is there already stays as it is.
INSERT INTO office.conflict (request_id, relay_id, terminal_id, account_id, op, outcome, masked, points, amount, currency, reference, sale_ms, at_ms)
SELECT c.request_id, c.relay_id, c.terminal_id, card.account_id, c.op, c.outcome, c.masked, c.points, c.amount, c.currency, c.reference, c.sale_ms, $13
FROM unnest($1::bytea[], $2::integer[], $3::integer[], $4::bytea[], $5::smallint[], $6::smallint[], $7::text[], $8::bigint[], $9::bigint[],
    $10::text[], $11::text[], $12::bigint[])
    AS c (request_id, relay_id, terminal_id, token, op, outcome, masked, points, amount, currency, reference, sale_ms)
LEFT JOIN card ON card.token = c.token
ON CONFLICT (request_id, terminal_id) DO NOTHING
