-- $1 request ids. Returns each with every entry that targets it, directly or through another one, oldest first.
WITH RECURSIVE family AS (
    SELECT e.request_id AS original, e.account_id, e.seq, e.request_id
    FROM entry e WHERE e.request_id = ANY ($1::bytea[])
    UNION ALL
    SELECT f.original, c.account_id, c.seq, c.request_id FROM family f JOIN entry c ON c.target = f.request_id
)
SELECT f.original, e.account_id, e.seq, e.op, e.request_id, e.network_id, e.terminal_id, e.amount, e.eligible, e.spent, e.earned, e.refunded, e.moves,
    e.target, e.rate_bp, e.until_ms, e.answer
FROM family f JOIN entry e USING (account_id, seq)
ORDER BY f.original, e.seq
