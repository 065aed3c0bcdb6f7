-- $1 codes. Returns those of them that are relays, as terminals_by_code returns terminals, and what is theirs alone.
SELECT t.terminal_id, t.code, s.network_id, t.store_id, t.permitted, t.salt, t.iterations, t.stored_key, t.server_key,
    t.active AND t.revoked_ms IS NULL AND s.active AND n.active AND p.active AS active,
    r.generation, r.allowance_points, r.allowance_ms
FROM relay r JOIN terminal t USING (terminal_id) JOIN store s USING (store_id) JOIN network n USING (network_id) JOIN partner p USING (partner_id)
WHERE t.code = ANY ($1::text[])
