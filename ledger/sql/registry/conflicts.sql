-- What a relay had approved while it was alone and headquarters then declined. The newest come first; null filters nothing.

-- name: find
-- $1 before this id, $2 at most so many, $3 only this partner's, $4 only this network's, $5 only this store's, $6 only this relay's,
-- $7 only this account's, $8 only this one, $9 true: settled ones, false: open ones, $10 only the one of this request. The place is that of the register.
SELECT c.conflict_id, c.request_id, c.relay_id, r.code AS relay, t.code AS terminal, t.store_id, s.name AS store, s.network_id, n.name AS network,
    n.partner_id, c.account_id, c.op, c.outcome, c.masked, c.points, c.amount, c.currency, c.reference, c.sale_ms, c.at_ms, c.settled_by, c.settled_ms,
    c.note
FROM office.conflict c JOIN terminal r ON r.terminal_id = c.relay_id JOIN terminal t ON t.terminal_id = c.terminal_id
    JOIN store s ON s.store_id = t.store_id JOIN network n USING (network_id)
WHERE c.conflict_id < $1 AND ($3::integer IS NULL OR n.partner_id = $3) AND ($4::integer IS NULL OR s.network_id = $4)
    AND ($5::integer IS NULL OR t.store_id = $5) AND ($6::integer IS NULL OR c.relay_id = $6) AND ($7::bigint IS NULL OR c.account_id = $7)
    AND ($8::bigint IS NULL OR c.conflict_id = $8) AND ($9::boolean IS NULL OR (c.settled_ms IS NOT NULL) = $9)
    AND ($10::bytea IS NULL OR c.request_id = $10)
ORDER BY c.conflict_id DESC LIMIT $2

-- name: open
-- $1 only this partner's or null. Returns how many nobody has settled.
SELECT count(*) FROM office.conflict c JOIN terminal t USING (terminal_id) JOIN store s USING (store_id) JOIN network n USING (network_id)
WHERE c.settled_ms IS NULL AND ($1::integer IS NULL OR n.partner_id = $1)

-- name: settle
-- $1 conflict, $2 actor, $3 now, $4 note. Returns true unless it was settled before.
UPDATE office.conflict SET settled_by = $2, settled_ms = $3, note = $4 WHERE conflict_id = $1 AND settled_ms IS NULL RETURNING true
