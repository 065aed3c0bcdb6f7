-- $1 code. Returns what a session of this terminal needs.
SELECT t.terminal_id, t.code, s.network_id, t.store_id, t.permitted, t.active, t.salt, t.iterations, t.stored_key, t.server_key
FROM terminal t JOIN store s USING (store_id) WHERE t.code = $1
