-- $1 code. Returns what a session of this terminal needs; it is active if everything above it is, too.
SELECT t.terminal_id, t.code, s.network_id, t.store_id, t.permitted, t.active AND s.active AND n.active AND p.active AS active,
    t.salt, t.iterations, t.stored_key, t.server_key
FROM terminal t JOIN store s USING (store_id) JOIN network n USING (network_id) JOIN partner p USING (partner_id) WHERE t.code = $1
