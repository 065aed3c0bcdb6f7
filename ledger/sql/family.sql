-- $1 request ids. Returns each with every entry that targets it, directly or through another one: itself first, then by account, oldest first.
-- What targets it may be of another account, into which its own was merged; an account has no entry of its own after that.
-- `above_reversed` (told with the request itself): something that it targets has been reversed, and so has it.
-- `counted_ms`: when its spending was counted, for a CAPTURE the moment of its HOLD.
WITH RECURSIVE family AS (
    SELECT e.request_id AS original, e.account_id, e.seq, e.request_id
    FROM entry e WHERE e.request_id = ANY ($1::bytea[])
    UNION ALL
    SELECT f.original, c.account_id, c.seq, c.request_id FROM family f JOIN entry c ON c.target = f.request_id
), above AS (
    SELECT e.request_id AS original, e.target FROM entry e WHERE e.request_id = ANY ($1::bytea[]) AND e.op <> 24 AND e.target IS NOT NULL
    UNION ALL
    SELECT a.original, e.target FROM above a JOIN entry e ON e.request_id = a.target WHERE e.target IS NOT NULL
)
SELECT f.original, e.account_id, e.seq, e.op, e.request_id, e.network_id, e.terminal_id, e.amount, e.eligible, e.spent, e.earned, e.refunded, e.moves,
    e.target, e.rate_bp, e.until_ms, e.cards, e.answer,
    f.request_id = f.original AND EXISTS (SELECT FROM above a JOIN entry r USING (target) WHERE a.original = f.original AND r.op = 24) AS above_reversed,
    coalesce((SELECT h.at_ms FROM entry h WHERE h.request_id = e.target AND h.op = 18 AND e.op = 19), e.at_ms) AS counted_ms
FROM family f JOIN entry e USING (account_id, seq)
ORDER BY f.original, f.request_id IS DISTINCT FROM f.original, e.account_id, e.seq
