-- Rules of networks in all their versions. `rules` holds what workers read; `rules_version` everything that was ever saved, and who did.

-- name: network
-- $1 network. Returns it; nobody else changes its rules until this transaction ends.
SELECT network_id, partner_id, name, currency FROM network WHERE network_id = $1 FOR NO KEY UPDATE

-- name: add
-- $1 network, $2 valid from, $3 rules as JSON, $4 note, $5 now, $6 actor, $7 copied version or null. Returns the version.
WITH read_by_workers AS (
    INSERT INTO rules
    SELECT (jsonb_populate_record(NULL::rules, $3::jsonb || jsonb_build_object('network_id', $1::integer, 'valid_from_ms', $2::bigint))).*
)
INSERT INTO rules_version (network_id, valid_from_ms, rules, note, made_ms, made_by, copy_of)
VALUES ($1, $2, $3::jsonb, $4, $5, $6, $7) RETURNING version

-- name: has_any
-- $1 network. Returns whether it has rules.
SELECT EXISTS (SELECT FROM rules WHERE network_id = $1)

-- name: in_force
-- $1 network, $2 moment. Returns the version in force then; the first one holds since ever.
SELECT version, valid_from_ms, rules::text AS rules FROM rules_version WHERE network_id = $1 AND withdrawn_ms IS NULL
ORDER BY valid_from_ms <= $2 DESC, abs(valid_from_ms - $2) LIMIT 1

-- name: versions
-- $1 network, $2 before this version, $3 at most so many, $4 only this version or null. Newest first; valid_until_ms is null where nothing follows.
SELECT * FROM (
    SELECT version, valid_from_ms, rules::text AS rules, note, made_ms, made_by, copy_of, withdrawn_ms, withdrawn_by,
        CASE WHEN withdrawn_ms IS NULL THEN lead(valid_from_ms) OVER (PARTITION BY withdrawn_ms IS NULL ORDER BY valid_from_ms) END AS valid_until_ms
    FROM rules_version WHERE network_id = $1
) found
WHERE version < $2 AND ($4::bigint IS NULL OR version = $4)
ORDER BY version DESC LIMIT $3

-- name: withdraw
-- $1 network, $2 version, $3 now, $4 actor.
WITH taken AS (
    UPDATE rules_version SET withdrawn_ms = $3, withdrawn_by = $4 WHERE network_id = $1 AND version = $2 AND withdrawn_ms IS NULL
    RETURNING network_id, valid_from_ms
)
DELETE FROM rules USING taken WHERE rules.network_id = taken.network_id AND rules.valid_from_ms = taken.valid_from_ms
