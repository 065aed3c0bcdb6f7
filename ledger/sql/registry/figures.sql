-- Figures. Minutes are counted since 1970 UTC, *_ms are milliseconds since then, points and money are minor units.

-- name: transaction_id
-- Returns the name of the transaction it runs in.
SELECT pg_current_xact_id()::text

-- name: was_committed
-- $1 name of a transaction. One of the future is of a database that was set back since; one too old to be known was committed.
SELECT CASE WHEN $1::text::xid8 >= pg_snapshot_xmax(pg_current_snapshot()) THEN false
    ELSE coalesce(pg_xact_status($1::text::xid8), 'committed') = 'committed' END

-- name: add_tallies
-- Arrays of the same length: $1 minutes, $2 stores, $3 operations, $4 outcomes, $5 counts.
WITH added AS (
    SELECT * FROM unnest($1::bigint[], $2::integer[], $3::smallint[], $4::smallint[], $5::bigint[]) AS a (minute, store_id, op, outcome, count)
), of_networks AS (
    INSERT INTO office.network_tally AS t (minute, network_id, outcome, count)
    SELECT minute, network_id, outcome, sum(count) FROM added JOIN store USING (store_id) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (minute, network_id, outcome) DO UPDATE SET count = t.count + excluded.count
)
INSERT INTO office.tally AS t (minute, store_id, op, outcome, count)
SELECT * FROM added
ON CONFLICT (minute, store_id, op, outcome) DO UPDATE SET count = t.count + excluded.count

-- name: mark
-- $1 what is gathered.
SELECT until FROM office.gathered WHERE what = $1

-- name: take_mark
-- $1 what is gathered, $2 how far it is if nobody knows. The row is locked until the transaction ends.
INSERT INTO office.gathered AS g (what, until) VALUES ($1, $2) ON CONFLICT (what) DO UPDATE SET until = g.until RETURNING until

-- name: set_mark
-- $1 what is gathered, $2 how far.
UPDATE office.gathered SET until = $2 WHERE what = $1

-- name: first_entry_ms
-- $1 from when on, in ms.
SELECT min(at_ms) FROM entry WHERE at_ms >= $1

-- name: add_slice
-- $1 first ms, $2 first ms after, $3 operations that stand for a receipt.
WITH of_terminals AS MATERIALIZED (
    SELECT at_ms / 60000 AS minute, terminal_id, network_id, op, count(*) AS entries, sum(amount) AS amount, sum(points) AS points,
        sum(spent) AS spent, sum(earned) AS earned
    FROM entry WHERE at_ms >= $1 AND at_ms < $2
    GROUP BY 1, 2, 3, 4
), added AS MATERIALIZED (
    SELECT minute, coalesce(t.store_id, 0) AS store_id, network_id, op, sum(entries) AS entries,
        coalesce(sum(entries) FILTER (WHERE op = ANY ($3::smallint[])), 0) AS receipts,
        coalesce(sum(amount) FILTER (WHERE op = ANY ($3::smallint[])), 0) AS amount,
        sum(points) AS points, sum(spent) AS spent, sum(earned) AS earned
    FROM of_terminals LEFT JOIN terminal AS t USING (terminal_id)
    GROUP BY 1, 2, 3, 4
), of_networks AS (
    INSERT INTO office.network_flow AS f (minute, network_id, op, entries, receipts, amount, points, spent, earned)
    SELECT minute, network_id, op, sum(entries), sum(receipts), sum(amount), sum(points), sum(spent), sum(earned)
    FROM added GROUP BY 1, 2, 3
    ON CONFLICT (minute, network_id, op) DO UPDATE SET
        entries = f.entries + excluded.entries, receipts = f.receipts + excluded.receipts, amount = f.amount + excluded.amount,
        points = f.points + excluded.points, spent = f.spent + excluded.spent, earned = f.earned + excluded.earned
)
INSERT INTO office.flow AS f (minute, store_id, network_id, op, entries, receipts, amount, points, spent, earned)
SELECT minute, store_id, network_id, op, entries, receipts, amount, points, spent, earned FROM added
ON CONFLICT (minute, store_id, network_id, op) DO UPDATE SET
    entries = f.entries + excluded.entries, receipts = f.receipts + excluded.receipts, amount = f.amount + excluded.amount,
    points = f.points + excluded.points, spent = f.spent + excluded.spent, earned = f.earned + excluded.earned

-- name: differing_minutes
-- $1 first minute, $2 first minute after. Rows of the journal neither change nor go, and no slice has what another has: so the flow can only lack
-- entries, and has the same ones if it has as many.
SELECT minute
FROM (SELECT at_ms / 60000 AS minute, count(*) AS entries FROM entry
    WHERE at_ms >= $1::bigint * 60000 AND at_ms < $2::bigint * 60000 GROUP BY 1) AS journal
FULL JOIN (SELECT minute, sum(entries) AS entries FROM office.network_flow WHERE minute >= $1 AND minute < $2 GROUP BY 1) AS flow USING (minute)
WHERE journal.entries IS DISTINCT FROM flow.entries

-- name: delete_minute
-- $1 minute.
WITH of_networks AS (DELETE FROM office.network_flow WHERE minute = $1) DELETE FROM office.flow WHERE minute = $1

-- name: add_sample
-- $1 now, $2 figures as JSON.
INSERT INTO office.sample (at_ms, figures) VALUES ($1, $2) ON CONFLICT (at_ms) DO NOTHING

-- name: last_sample
SELECT at_ms, figures FROM office.sample ORDER BY at_ms DESC LIMIT 1

-- name: only_one_standing
-- Returns whether nobody else adds up at this moment; the number is of no other lock here.
SELECT pg_try_advisory_xact_lock(7480, 1)

-- name: add_standing
-- $1 now. Reads every account and every card.
INSERT INTO office.standing (at_ms, accounts, balance, held, owed, cards_issued, cards_active)
SELECT $1, a.accounts, a.balance, a.held, a.owed, c.issued, c.active
FROM (SELECT count(*) AS accounts, coalesce(sum(balance), 0) AS balance, coalesce(sum(held), 0) AS held, coalesce(sum(owed), 0) AS owed FROM account) AS a,
    (SELECT count(*) AS issued, count(*) FILTER (WHERE status = 1) AS active FROM card) AS c
ON CONFLICT (at_ms) DO NOTHING

-- name: last_standing
SELECT at_ms, accounts, balance, held, owed, cards_issued, cards_active FROM office.standing ORDER BY at_ms DESC LIMIT 1

-- name: oldest_tally
SELECT min(minute) FROM office.tally

-- name: oldest_flow
SELECT min(minute) FROM office.flow

-- name: oldest_network_tally
SELECT min(minute) FROM office.network_tally

-- name: oldest_network_flow
SELECT min(minute) FROM office.network_flow

-- name: oldest_sample
SELECT min(at_ms) FROM office.sample

-- name: thin_tally
-- $1 first minute of an hour. The rows are all deleted before the first one is put in their place.
WITH gone AS MATERIALIZED (DELETE FROM office.tally WHERE minute >= $1 AND minute < $1::bigint + 60 RETURNING store_id, op, outcome, count)
INSERT INTO office.tally (minute, store_id, op, outcome, count)
SELECT $1, store_id, op, outcome, sum(count) FROM gone GROUP BY store_id, op, outcome

-- name: thin_flow
-- $1 first minute of an hour.
WITH gone AS MATERIALIZED (
    DELETE FROM office.flow WHERE minute >= $1 AND minute < $1::bigint + 60
    RETURNING store_id, network_id, op, entries, receipts, amount, points, spent, earned
)
INSERT INTO office.flow (minute, store_id, network_id, op, entries, receipts, amount, points, spent, earned)
SELECT $1, store_id, network_id, op, sum(entries), sum(receipts), sum(amount), sum(points), sum(spent), sum(earned)
FROM gone GROUP BY store_id, network_id, op

-- name: thin_network_tally
-- $1 first minute of an hour.
WITH gone AS MATERIALIZED (DELETE FROM office.network_tally WHERE minute >= $1 AND minute < $1::bigint + 60 RETURNING network_id, outcome, count)
INSERT INTO office.network_tally (minute, network_id, outcome, count)
SELECT $1, network_id, outcome, sum(count) FROM gone GROUP BY network_id, outcome

-- name: thin_network_flow
-- $1 first minute of an hour.
WITH gone AS MATERIALIZED (
    DELETE FROM office.network_flow WHERE minute >= $1 AND minute < $1::bigint + 60
    RETURNING network_id, op, entries, receipts, amount, points, spent, earned
)
INSERT INTO office.network_flow (minute, network_id, op, entries, receipts, amount, points, spent, earned)
SELECT $1, network_id, op, sum(entries), sum(receipts), sum(amount), sum(points), sum(spent), sum(earned)
FROM gone GROUP BY network_id, op

-- name: thin_sample
-- $1 first ms of five minutes. Rates become means, everything else the worst.
WITH gone AS MATERIALIZED (DELETE FROM office.sample WHERE at_ms >= $1 AND at_ms < $1::bigint + 300000 RETURNING figures),
thinned AS (
    SELECT key, CASE WHEN key IN ('answers_per_s', 'connections') THEN avg(value::text::float8) ELSE max(value::text::float8) END AS value
    FROM gone, jsonb_each(figures) WHERE jsonb_typeof(value) = 'number' GROUP BY key
)
INSERT INTO office.sample (at_ms, figures) SELECT $1, jsonb_object_agg(key, value) FROM thinned HAVING count(*) > 0

-- name: tallies_of_networks
-- $1 first minutes of the spans, $2 first minutes after them, $3 step in minutes, $4 how far the grid of steps is moved, $5 partner or null,
-- $6 network or null.
SELECT (t.minute + $4::bigint) / $3::bigint * $3::bigint - $4::bigint AS step, t.outcome, sum(t.count)::bigint AS count
FROM unnest($1::bigint[], $2::bigint[]) AS span (lo, hi)
JOIN office.network_tally AS t ON t.minute >= span.lo AND t.minute < span.hi
WHERE (($5::integer IS NULL AND $6::integer IS NULL) OR t.network_id IN (
    SELECT network_id FROM network WHERE ($5::integer IS NULL OR partner_id = $5) AND ($6::integer IS NULL OR network_id = $6)))
GROUP BY 1, 2

-- name: tallies_of_store
-- As `tallies_of_networks`; $7 store.
SELECT (t.minute + $4::bigint) / $3::bigint * $3::bigint - $4::bigint AS step, t.outcome, sum(t.count)::bigint AS count
FROM unnest($1::bigint[], $2::bigint[]) AS span (lo, hi)
JOIN office.tally AS t ON t.minute >= span.lo AND t.minute < span.hi
WHERE t.store_id = $7 AND EXISTS (
    SELECT FROM store JOIN network USING (network_id)
    WHERE store_id = $7 AND ($5::integer IS NULL OR partner_id = $5) AND ($6::integer IS NULL OR network_id = $6))
GROUP BY 1, 2

-- name: flows_of_networks
-- As `tallies_of_networks`. Operations: 40 EXPIRE_LOTS, 32 ACTIVATE.
SELECT (f.minute + $4::bigint) / $3::bigint * $3::bigint - $4::bigint AS step,
    sum(f.earned)::bigint AS issued, sum(f.spent)::bigint AS spent,
    coalesce(-sum(f.points) FILTER (WHERE f.op = 40), 0)::bigint AS expired,
    sum(f.receipts)::bigint AS receipts, sum(f.amount)::bigint AS amount,
    coalesce(sum(f.entries) FILTER (WHERE f.op = 32), 0)::bigint AS activated
FROM unnest($1::bigint[], $2::bigint[]) AS span (lo, hi)
JOIN office.network_flow AS f ON f.minute >= span.lo AND f.minute < span.hi
WHERE (($5::integer IS NULL AND $6::integer IS NULL) OR f.network_id IN (
    SELECT network_id FROM network WHERE ($5::integer IS NULL OR partner_id = $5) AND ($6::integer IS NULL OR network_id = $6)))
GROUP BY 1

-- name: flows_of_store
-- As `tallies_of_store`.
SELECT (f.minute + $4::bigint) / $3::bigint * $3::bigint - $4::bigint AS step,
    sum(f.earned)::bigint AS issued, sum(f.spent)::bigint AS spent,
    coalesce(-sum(f.points) FILTER (WHERE f.op = 40), 0)::bigint AS expired,
    sum(f.receipts)::bigint AS receipts, sum(f.amount)::bigint AS amount,
    coalesce(sum(f.entries) FILTER (WHERE f.op = 32), 0)::bigint AS activated
FROM unnest($1::bigint[], $2::bigint[]) AS span (lo, hi)
JOIN office.flow AS f ON f.minute >= span.lo AND f.minute < span.hi
WHERE f.store_id = $7 AND EXISTS (
    SELECT FROM store JOIN network USING (network_id)
    WHERE store_id = $7 AND ($5::integer IS NULL OR partner_id = $5) AND ($6::integer IS NULL OR network_id = $6))
GROUP BY 1

-- name: samples
-- $1 beginnings of the spans in ms, $2 their ends, $3 step in ms, $4 how far the grid of steps is moved.
SELECT (s.at_ms + $4::bigint) / $3::bigint * $3::bigint - $4::bigint AS step,
    avg((s.figures->>'answers_per_s')::float8) AS answers_per_s,
    max((s.figures->>'p50_ms')::float8) AS p50_ms, max((s.figures->>'p99_ms')::float8) AS p99_ms,
    max((s.figures->>'queue')::float8) AS queue, max((s.figures->>'lag_ms')::float8) AS lag_ms,
    avg((s.figures->>'connections')::float8) AS connections, max((s.figures->>'standby')::float8) AS standby
FROM unnest($1::bigint[], $2::bigint[]) AS span (lo, hi)
JOIN office.sample AS s ON s.at_ms >= span.lo AND s.at_ms < span.hi
GROUP BY 1

-- name: standings
-- As `samples`.
SELECT DISTINCT ON (step) (s.at_ms + $4::bigint) / $3::bigint * $3::bigint - $4::bigint AS step, s.balance, s.held, s.owed, s.accounts,
    s.cards_issued, s.cards_active
FROM unnest($1::bigint[], $2::bigint[]) AS span (lo, hi)
JOIN office.standing AS s ON s.at_ms >= span.lo AND s.at_ms < span.hi
ORDER BY step, s.at_ms DESC

-- name: currencies
-- $1 partner or null, $2 network or null, $3 store or null.
SELECT DISTINCT n.currency FROM network AS n LEFT JOIN store AS s USING (network_id)
WHERE ($1::integer IS NULL OR n.partner_id = $1) AND ($2::integer IS NULL OR n.network_id = $2) AND ($3::integer IS NULL OR s.store_id = $3)

-- name: places
-- $1 partner or null.
SELECT n.network_id, n.name AS network, n.currency, s.store_id, s.name AS store
FROM network AS n LEFT JOIN store AS s USING (network_id)
WHERE $1::integer IS NULL OR n.partner_id = $1 ORDER BY n.name, s.name

-- name: beginnings
SELECT EXISTS (SELECT FROM partner) AS partners, EXISTS (SELECT FROM store) AS stores, EXISTS (SELECT FROM terminal) AS terminals,
    EXISTS (SELECT FROM card) AS cards, EXISTS (SELECT FROM entry) AS entries
