-- $1 accounts. Returns those of them that have become part of another one, and which one that is in the end. The last entry of a closed account is
-- a MERGE_OUT (47); the MERGE_IN (48) that names it says who took it in.
WITH RECURSIVE way AS (
    SELECT a AS account_id, a AS reached, 0 AS steps FROM unnest($1::bigint[]) a
    UNION ALL
    SELECT w.account_id, taken.account_id, w.steps + 1
    FROM way w JOIN account a ON a.account_id = w.reached
    JOIN entry given ON given.account_id = a.account_id AND given.seq = a.seq AND given.op = 47
    JOIN entry taken ON taken.target = given.request_id AND taken.op = 48
)
SELECT DISTINCT ON (account_id) account_id, reached FROM way WHERE steps > 0 ORDER BY account_id, steps DESC
