-- What leaves: each statement is one file, in an order that stays. Days are ISO dates, points and money minor units, *_ms since 1970.

-- name: partners
SELECT partner_id, name, active FROM partner ORDER BY partner_id
-- name: networks
SELECT network_id, partner_id, name, currency, active FROM network ORDER BY network_id
-- name: stores
SELECT store_id, network_id, name, active FROM store ORDER BY store_id
-- name: terminals
SELECT terminal_id, code, store_id, array_to_string(permitted, ' ') AS permitted, active, revoked_ms FROM terminal ORDER BY terminal_id
-- name: relays
SELECT terminal_id, generation, allowance_points, allowance_ms, software, heard_ms, queued, oldest_ms, offline_since_ms FROM relay ORDER BY terminal_id
-- name: conflicts
SELECT conflict_id, encode(request_id, 'hex') AS request_id, relay_id, terminal_id, account_id, op, outcome, masked, points, amount, currency, reference,
    sale_ms, at_ms, settled_by, settled_ms, note
FROM office.conflict ORDER BY conflict_id
-- name: rules
SELECT to_jsonb(r)::text AS rules FROM rules r ORDER BY network_id, valid_from_ms
-- name: rules_versions
SELECT version, network_id, valid_from_ms, rules::text AS rules, note, made_ms, made_by, copy_of, withdrawn_ms, withdrawn_by FROM rules_version ORDER BY version
-- name: members
SELECT account_id, data, created_ms, changed_ms, erased_ms FROM personal.member ORDER BY account_id
-- name: cards
SELECT account_id, encode(token, 'hex') AS token, kind, masked, status, made_ms FROM card ORDER BY account_id, token
-- name: accounts
SELECT a.account_id, a.seq, a.balance, a.held, a.owed, a.state, m.data FROM account a LEFT JOIN personal.member m USING (account_id) ORDER BY a.account_id
-- name: entries
SELECT account_id, seq, op, encode(request_id, 'hex') AS request_id, terminal_id, network_id, points, held, owed, balance_after, held_after, owed_after, spent,
    earned, refunded, amount, eligible, encode(target, 'hex') AS target, moves, at_ms, sale_ms, rate_bp, until_ms, cards, currency, reference, link,
    encode(seal, 'hex') AS seal
FROM entry ORDER BY account_id, seq
-- name: audit
SELECT audit_id, at_ms, actor, actor_name, action, subject, account_id, partner_id, store_id, encode(request_id, 'hex') AS request_id, address, detail::text AS detail
FROM office.audit ORDER BY audit_id
-- name: totals
-- What the database says of itself, to hold the files against.
SELECT (SELECT count(*) FROM account) AS accounts, (SELECT coalesce(sum(balance), 0)::bigint FROM account) AS balance,
    (SELECT coalesce(sum(held), 0)::bigint FROM account) AS held, (SELECT coalesce(sum(owed), 0)::bigint FROM account) AS owed,
    (SELECT count(*) FROM entry) AS entries, (SELECT coalesce(sum(points), 0)::bigint FROM entry) AS entries_points
