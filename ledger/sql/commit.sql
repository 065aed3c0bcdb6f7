-- Commit the decisions of one partition in one statement, so in one transaction.
-- $1 mark, $2 partition, $3 epoch: refused whole when another owner has a later epoch.
-- $4 the entries (type journal_row); the last entry of each account also carries the account's predecessor, due_ms and state.
-- Returns: fenced_in (false = all refused), accounts taken. An account whose head is not the named predecessor is left out with all its entries.
WITH fence AS (
    UPDATE partition SET mark = $1 WHERE partition_id = $2 AND epoch = $3 RETURNING partition_id
), given AS MATERIALIZED (
    SELECT * FROM unnest($4::journal_row[])
), head AS (
    UPDATE account a
    SET seq = g.seq, link = g.link, balance = g.balance_after, held = g.held_after, owed = g.owed_after, due_ms = g.due_ms, state = g.state
    FROM given g
    WHERE g.state IS NOT NULL
        AND a.account_id = g.account_id AND a.seq = g.after_seq AND a.link = g.after_link AND EXISTS (SELECT FROM fence)
    RETURNING a.account_id
), journaled AS (
    INSERT INTO entry
    SELECT g.account_id, g.seq, g.link, g.op, g.request_id, g.terminal_id, g.network_id, g.points, g.held, g.owed, g.balance_after, g.held_after, g.owed_after,
        g.spent, g.earned, g.refunded, g.amount, g.eligible, g.target, g.moves, g.at_ms, g.sale_ms, g.rate_bp, g.until_ms, g.cards,
        g.currency, g.reference, g.fingerprint, g.answer, g.seal
    FROM given g JOIN head USING (account_id)
)
SELECT EXISTS (SELECT FROM fence) AS fenced_in, array(SELECT account_id FROM head) AS accounts
