-- Who did what.

-- name: record
-- $1 now, $2 actor, $3 how people know it, $4 action, $5 subject, $6 account, $7 partner, $8 store, $9 request id, $10 address, $11 detail as JSON.
INSERT INTO office.audit (at_ms, actor, actor_name, action, subject, account_id, partner_id, store_id, request_id, address, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
