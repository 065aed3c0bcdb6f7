-- $1 relays (terminal ids), $2 software, $3 heard_ms, $4 queued, $5 oldest_ms, $6 offline_since_ms: what each said last. Older news change nothing.
UPDATE relay SET software = said.software, heard_ms = said.heard_ms, queued = said.queued, oldest_ms = said.oldest_ms,
    offline_since_ms = said.offline_since_ms
FROM unnest($1::integer[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
    AS said (terminal_id, software, heard_ms, queued, oldest_ms, offline_since_ms)
WHERE relay.terminal_id = said.terminal_id AND (relay.heard_ms IS NULL OR relay.heard_ms <= said.heard_ms)
