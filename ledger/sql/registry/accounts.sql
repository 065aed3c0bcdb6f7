-- Accounts and their journal, read for people. Who stood where is told by the names of today.

-- name: head
-- $1 account. Returns its head, and the account that it was merged into.
SELECT a.account_id, a.seq, a.state, (SELECT m.target FROM office.merge m WHERE m.source = a.account_id AND m.state IN ('out', 'done')) AS merged_into
FROM account a WHERE a.account_id = $1

-- name: entries
-- $1 account; then filters, each null for any: $2 seq below, $3 from, $4 before (at_ms), $5 operation, $6 store, $7 terminal, $8 request id, $9 part of
-- the receipt's reference; $10 at most so many. Newest first.
SELECT e.account_id, e.seq, e.op, e.request_id, e.target, e.at_ms, e.sale_ms, e.points, e.held, e.owed, e.spent, e.earned, e.refunded, e.amount,
    e.balance_after, e.held_after, e.owed_after, e.currency, e.reference, e.until_ms, e.cards, e.answer,
    e.network_id, n.name AS network, p.name AS partner, t.terminal_id, t.code AS terminal, s.store_id, s.name AS store
FROM entry e
LEFT JOIN network n ON n.network_id = e.network_id LEFT JOIN partner p USING (partner_id)
LEFT JOIN terminal t ON t.terminal_id = e.terminal_id LEFT JOIN store s USING (store_id)
WHERE e.account_id = $1 AND ($2::bigint IS NULL OR e.seq < $2) AND ($3::bigint IS NULL OR e.at_ms >= $3) AND ($4::bigint IS NULL OR e.at_ms < $4)
    AND ($5::smallint IS NULL OR e.op = $5) AND ($6::integer IS NULL OR s.store_id = $6) AND ($7::integer IS NULL OR e.terminal_id = $7)
    AND ($8::bytea IS NULL OR e.request_id = $8) AND ($9::text IS NULL OR e.reference ILIKE '%' || $9 || '%')
ORDER BY e.seq DESC LIMIT $10

-- name: accounts_of_requests
-- $1 request ids. Returns where they are in the journal.
SELECT request_id, account_id, seq, op, at_ms FROM entry WHERE request_id = ANY ($1::bytea[])

-- name: askers
-- $1 request ids. Who asked for what the ledger did under them, and why, as the audit log has it.
SELECT DISTINCT ON (request_id) request_id, actor, actor_name, action, detail FROM office.audit WHERE request_id = ANY ($1::bytea[]) ORDER BY request_id, audit_id

-- name: store_of_terminal
-- $1 request ids. Returns when and at which terminal these entries were made.
SELECT e.request_id, e.at_ms, e.network_id, n.name AS network, t.terminal_id, t.code AS terminal, s.store_id, s.name AS store
FROM entry e LEFT JOIN network n USING (network_id) LEFT JOIN terminal t USING (terminal_id) LEFT JOIN store s USING (store_id)
WHERE e.request_id = ANY ($1::bytea[])

-- name: stores_of_account
-- $1 account. The stores in which its entries were made, by name.
SELECT DISTINCT s.store_id, s.name AS store, n.name AS network
FROM entry e JOIN terminal t USING (terminal_id) JOIN store s USING (store_id) JOIN network n ON n.network_id = s.network_id
WHERE e.account_id = $1 ORDER BY n.name, s.name, s.store_id
