-- Commit the decisions of one partition in one statement, so in one transaction.
-- $1 mark, $2 partition, $3 epoch: refused whole when another owner has a later epoch.
-- $4..$12 one row per account: account, predecessor's seq and link, new seq and link, balance, held, owed, due_ms (0 = none), $13 state.
-- $14..$43 one row per entry, in the order of the columns of `entry`; moves come as array literals.
-- Returns: fenced_in (false = all refused), accounts taken. An account whose head is not the named predecessor is left out with all its entries.
WITH fence AS (
    UPDATE partition SET mark = $1 WHERE partition_id = $2 AND epoch = $3 RETURNING partition_id
), head AS (
    UPDATE account a
    SET seq = n.seq, link = n.link, balance = n.balance, held = n.held, owed = n.owed, due_ms = nullif(n.due_ms, 0), state = n.state
    FROM unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bytea[])
        AS n (account_id, after_seq, after_link, seq, link, balance, held, owed, due_ms, state)
    WHERE a.account_id = n.account_id AND a.seq = n.after_seq AND a.link = n.after_link AND EXISTS (SELECT FROM fence)
    RETURNING a.account_id
), journaled AS (
    INSERT INTO entry
    SELECT e.account_id, e.seq, e.link, e.op, e.request_id, e.terminal_id, e.network_id, e.points, e.held, e.owed, e.balance_after, e.held_after, e.owed_after,
        e.spent, e.earned, e.refunded, e.amount, e.eligible, e.target, e.moves::bigint[], e.at_ms, e.sale_ms, e.rate_bp, e.until_ms, e.cards,
        e.currency, e.reference, e.fingerprint, e.answer, e.seal
    FROM unnest($14::bigint[], $15::bigint[], $16::bigint[], $17::smallint[], $18::bytea[], $19::integer[], $20::integer[], $21::bigint[], $22::bigint[],
        $23::bigint[], $24::bigint[], $25::bigint[], $26::bigint[], $27::bigint[], $28::bigint[], $29::bigint[], $30::bigint[], $31::bigint[],
        $32::bytea[], $33::text[], $34::bigint[], $35::bigint[], $36::integer[], $37::bigint[], $38::bytea[], $39::text[], $40::text[],
        $41::bytea[], $42::bytea[], $43::bytea[])
        AS e (account_id, seq, link, op, request_id, terminal_id, network_id, points, held, owed, balance_after, held_after, owed_after,
            spent, earned, refunded, amount, eligible, target, moves, at_ms, sale_ms, rate_bp, until_ms, cards, currency, reference, fingerprint, answer, seal)
    JOIN head USING (account_id)
)
SELECT EXISTS (SELECT FROM fence) AS fenced_in, array(SELECT account_id FROM head) AS accounts
