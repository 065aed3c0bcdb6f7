-- Who takes part: partners, their networks, those networks' stores. A list is sorted by id and begins after one; null filters nothing.
-- Relays are terminals of their stores, but nobody counts them among the registers.

-- name: add_partner
-- $1 name. Returns its id.
INSERT INTO partner (name) VALUES ($1) RETURNING partner_id

-- name: add_network
-- $1 partner, $2 name, $3 ISO 4217 code. Returns its id.
INSERT INTO network (partner_id, name, currency) VALUES ($1, $2, $3) RETURNING network_id

-- name: add_store
-- $1 network, $2 name. Returns its id.
INSERT INTO store (network_id, name) VALUES ($1, $2) RETURNING store_id

-- name: partners
-- $1 after this id, $2 at most so many, $3 part of the name, $4 only this partner.
SELECT p.partner_id, p.name, p.active,
    (SELECT count(*) FROM network n WHERE n.partner_id = p.partner_id) AS networks,
    (SELECT count(*) FROM store s JOIN network n USING (network_id) WHERE n.partner_id = p.partner_id) AS stores,
    (SELECT count(*) FROM terminal t JOIN store s USING (store_id) JOIN network n USING (network_id)
     WHERE n.partner_id = p.partner_id AND t.revoked_ms IS NULL AND NOT EXISTS (SELECT FROM relay r WHERE r.terminal_id = t.terminal_id)) AS terminals
FROM partner p
WHERE p.partner_id > $1 AND ($3::text IS NULL OR strpos(lower(p.name), lower($3)) > 0) AND ($4::integer IS NULL OR p.partner_id = $4)
ORDER BY p.partner_id LIMIT $2

-- name: networks
-- $1 after this id, $2 at most so many, $3 part of the name, $4 only this partner's, $5 only this network. It works if its partner does, too.
SELECT n.network_id, n.partner_id, p.name AS partner, n.name, n.currency, n.active, n.active AND p.active AS works,
    (SELECT count(*) FROM store s WHERE s.network_id = n.network_id) AS stores,
    (SELECT count(*) FROM terminal t JOIN store s USING (store_id)
     WHERE s.network_id = n.network_id AND t.revoked_ms IS NULL AND NOT EXISTS (SELECT FROM relay r WHERE r.terminal_id = t.terminal_id)) AS terminals
FROM network n JOIN partner p USING (partner_id)
WHERE n.network_id > $1 AND ($3::text IS NULL OR strpos(lower(n.name), lower($3)) > 0) AND ($4::integer IS NULL OR n.partner_id = $4)
    AND ($5::integer IS NULL OR n.network_id = $5)
ORDER BY n.network_id LIMIT $2

-- name: stores
-- $1 after this id, $2 at most so many, $3 part of the name, $4 only this partner's, $5 only this network's, $6 only this store.
SELECT s.store_id, s.network_id, n.name AS network, n.partner_id, s.name, s.active, s.active AND n.active AND p.active AS works,
    (SELECT count(*) FROM terminal t
     WHERE t.store_id = s.store_id AND t.revoked_ms IS NULL AND NOT EXISTS (SELECT FROM relay r WHERE r.terminal_id = t.terminal_id)) AS terminals
FROM store s JOIN network n USING (network_id) JOIN partner p USING (partner_id)
WHERE s.store_id > $1 AND ($3::text IS NULL OR strpos(lower(s.name), lower($3)) > 0) AND ($4::integer IS NULL OR n.partner_id = $4)
    AND ($5::integer IS NULL OR s.network_id = $5) AND ($6::integer IS NULL OR s.store_id = $6)
ORDER BY s.store_id LIMIT $2

-- name: change_partner
-- $1 partner, $2 name or null, $3 active or null. Null leaves it as it is.
UPDATE partner SET name = coalesce($2, name), active = coalesce($3, active) WHERE partner_id = $1

-- name: change_network
-- $1 network, $2 name or null, $3 active or null.
UPDATE network SET name = coalesce($2, name), active = coalesce($3, active) WHERE network_id = $1

-- name: change_store
-- $1 store, $2 name or null, $3 active or null.
UPDATE store SET name = coalesce($2, name), active = coalesce($3, active) WHERE store_id = $1

-- name: partner_named
-- $1 name. Returns a partner's id.
SELECT partner_id FROM partner WHERE name = $1

-- name: network_named
-- $1 name. Returns a network's id.
SELECT network_id FROM network WHERE name = $1

-- name: time_zone
-- Returns the IANA name of the time zone in which days begin and end.
SELECT time_zone FROM programme

-- name: set_time_zone
-- $1 IANA name.
UPDATE programme SET time_zone = $1, version = version + 1
