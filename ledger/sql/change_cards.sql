-- $1 tokens, $2 accounts, $3 statuses, $4 kinds, $5 masked numbers: bring cards to what the decisions of this transaction say.
-- Status 4 takes a card from its account: the row goes, and the card leads nowhere.
-- A card moves to another account only from a pristine one, where it was issued and never used, and from one that was closed by a MERGE_OUT (47) which
-- that other account has taken in (48), as an entry before it in this transaction says. Returns the tokens taken, or gone.
WITH given AS MATERIALIZED (
    SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::smallint[], $4::smallint[], $5::text[]) AS g (token, account_id, status, kind, masked)
), gone AS (
    DELETE FROM card c USING given g WHERE g.status = 4 AND c.token = g.token AND c.account_id = g.account_id RETURNING c.token
), changed AS (
    INSERT INTO card AS c (token, account_id, status, kind, masked)
    SELECT * FROM given WHERE status <> 4
    ON CONFLICT (token) DO UPDATE SET account_id = excluded.account_id, status = excluded.status
        WHERE c.account_id = excluded.account_id
            OR (c.status = 0 AND EXISTS (SELECT FROM account a WHERE a.account_id = c.account_id AND a.seq = 0 FOR UPDATE))
            OR EXISTS (
                SELECT FROM account a JOIN entry given ON given.account_id = a.account_id AND given.seq = a.seq AND given.op = 47
                JOIN entry taken ON taken.target = given.request_id AND taken.op = 48
                WHERE a.account_id = c.account_id AND taken.account_id = excluded.account_id
            )
    RETURNING c.token
)
SELECT token FROM gone UNION ALL SELECT token FROM changed
