-- Manual adjustments: asked for, decided on by a second person where they are large, then done by the ledger.

-- name: add
-- $1 account, $2 points, $3 expiry day, $4 reason, $5 request id, $6 state (waiting or approved), $7 actor, $8 the person behind, $9 now. An adjustment that was asked for
-- under this request id before stays as it is.
INSERT INTO office.adjustment (account_id, points, expiry_day, reason, request_id, state, asked_by, asked_person, asked_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (request_id) DO NOTHING

-- name: one_at_a_time
-- $1 what is counted, as text. Until the transaction ends, nobody else counts the same.
SELECT pg_advisory_xact_lock(hashtextextended($1, 0))

-- name: made_alone
-- $1 account, $2 person, $3 from, $4 request id that does not count. Returns the points that a person gave and took without a second one.
SELECT coalesce(sum(abs(points)), 0)::bigint FROM office.adjustment
WHERE account_id = $1 AND asked_person = $2 AND asked_ms > $3 AND request_id <> $4 AND decided_person IS NULL AND state IN ('approved', 'done')

-- name: by_request
-- $1 request id.
SELECT * FROM office.adjustment WHERE request_id = $1

-- name: adjustment
-- $1 id.
SELECT * FROM office.adjustment WHERE adjustment_id = $1

-- name: for_change
-- $1 id. Locked until the transaction ends.
SELECT * FROM office.adjustment WHERE adjustment_id = $1 FOR UPDATE

-- name: list
-- $1 only those before this id, $2 state or null, $3 account or null, $4 at most so many. Newest first.
SELECT * FROM office.adjustment
WHERE adjustment_id < $1 AND ($2::text IS NULL OR state = $2) AND ($3::bigint IS NULL OR account_id = $3) ORDER BY adjustment_id DESC LIMIT $4

-- name: decide
-- $1 id, $2 state (approved or declined), $3 actor, $4 the person behind, $5 now.
UPDATE office.adjustment SET state = $2, decided_by = $3, decided_person = $4, decided_ms = $5 WHERE adjustment_id = $1 AND state = 'waiting'

-- name: settle
-- $1 id, $2 state (done or declined): what became of an approved one.
UPDATE office.adjustment SET state = $2 WHERE adjustment_id = $1 AND state = 'approved'

-- name: approved
-- $1 asked for or decided before (ms), $2 at most so many. Those that the ledger has not been heard of, oldest first.
SELECT * FROM office.adjustment WHERE state = 'approved' AND coalesce(decided_ms, asked_ms) < $1 ORDER BY adjustment_id LIMIT $2
