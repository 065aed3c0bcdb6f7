-- $1 codes. Returns what sessions of these terminals need; one is active if it was not revoked and everything above it is active, too.
SELECT t.terminal_id, t.code, s.network_id, t.store_id, t.permitted, t.salt, t.iterations, t.stored_key, t.server_key,
    t.active AND t.revoked_ms IS NULL AND s.active AND n.active AND p.active AS active
FROM terminal t JOIN store s USING (store_id) JOIN network n USING (network_id) JOIN partner p USING (partner_id) WHERE t.code = ANY ($1::text[])
