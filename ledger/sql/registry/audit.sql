-- Who did what.

-- name: record
-- $1 now, $2 actor, $3 how people know it, $4 action, $5 subject, $6 account, $7 partner, $8 store, $9 request id, $10 address, $11 detail as JSON.
INSERT INTO office.audit (at_ms, actor, actor_name, action, subject, account_id, partner_id, store_id, request_id, address, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)


-- name: find
-- Each filter may be null: $1 from and $2 until (excluded) a moment, $3 actor, $4 action or its beginning up to a full stop, $5 account, $6 request id,
-- $7 subject, $8 partner. $9 begin before this id, $10 most rows. The newest first.
SELECT audit_id, at_ms, actor, actor_name, action, subject, account_id, partner_id, store_id, request_id, address, detail
FROM office.audit
WHERE audit_id < $9
    AND ($1::bigint IS NULL OR at_ms >= $1) AND ($2::bigint IS NULL OR at_ms < $2)
    AND ($3::text IS NULL OR actor = $3) AND ($4::text IS NULL OR action = $4 OR starts_with(action, $4 || '.'))
    AND ($5::bigint IS NULL OR account_id = $5) AND ($6::bytea IS NULL OR request_id = $6)
    AND ($7::text IS NULL OR subject = $7) AND ($8::integer IS NULL OR partner_id = $8)
ORDER BY audit_id DESC LIMIT $10
