-- Merges of two accounts of one person, step by step: asked, out (the source is empty and closed), done.

-- name: add
-- $1 source, $2 target, $3 and $4 request ids of the two entries, $5 reason, $6 actor, $7 now. One that was declined may be asked for again.
INSERT INTO office.merge AS m (source, target, request_out, request_in, state, reason, asked_by, asked_ms) VALUES ($1, $2, $3, $4, 'asked', $5, $6, $7)
ON CONFLICT (source) DO UPDATE SET target = excluded.target, request_out = excluded.request_out, request_in = excluded.request_in, state = 'asked',
    reason = excluded.reason, asked_by = excluded.asked_by, asked_ms = excluded.asked_ms
    WHERE m.state = 'declined' AND m.request_out <> excluded.request_out

-- name: of_source
-- $1 account.
SELECT * FROM office.merge WHERE source = $1

-- name: of_source_for_change
-- $1 account. Locked until the transaction ends.
SELECT * FROM office.merge WHERE source = $1 FOR UPDATE

-- name: step
-- $1 source, $2 the state it is in, $3 the next one, $4 when it is done, or null.
UPDATE office.merge SET state = $3, done_ms = $4 WHERE source = $1 AND state = $2

-- name: open
-- $1 asked before (ms), $2 at most so many. Those that are not at their end, oldest first.
SELECT * FROM office.merge WHERE state IN ('asked', 'out') AND asked_ms < $1 ORDER BY merge_id LIMIT $2

-- name: is_open_target
-- $1 account. Whether something is being merged into it.
SELECT EXISTS (SELECT FROM office.merge WHERE target = $1 AND state IN ('asked', 'out'))
