-- $1 stores. Returns their terminals, as terminals_by_code does, by their ids; relays are none that anybody signs on as.
SELECT t.terminal_id, t.code, s.network_id, t.store_id, t.permitted, t.salt, t.iterations, t.stored_key, t.server_key,
    t.active AND t.revoked_ms IS NULL AND s.active AND n.active AND p.active AS active
FROM terminal t JOIN store s USING (store_id) JOIN network n USING (network_id) JOIN partner p USING (partner_id)
WHERE t.store_id = ANY ($1::integer[]) AND NOT EXISTS (SELECT FROM relay r WHERE r.terminal_id = t.terminal_id)
ORDER BY t.terminal_id
