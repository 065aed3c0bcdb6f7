-- Cards and batches of cards. A card is known by its token, the 16-byte keyed hash of its number.

-- name: by_tokens
-- $1 tokens. Returns the cards that exist. `pristine`: the account has never had an entry; `taken`: it has a member.
SELECT c.token, c.account_id, c.kind, c.masked, c.status, c.made_ms, c.batch_id, b.name AS batch_name, a.seq = 0 AS pristine,
    EXISTS (SELECT FROM personal.member m WHERE m.account_id = c.account_id AND (m.data IS NOT NULL OR m.erased_ms IS NOT NULL)) AS taken
FROM card c JOIN account a USING (account_id) LEFT JOIN card_batch b USING (batch_id)
WHERE c.token = ANY ($1::bytea[]) ORDER BY c.made_ms, c.token

-- name: of_accounts
-- $1 accounts. Returns their cards, oldest first.
SELECT c.token, c.account_id, c.kind, c.masked, c.status, c.made_ms, c.batch_id, b.name AS batch_name
FROM card c LEFT JOIN card_batch b USING (batch_id)
WHERE c.account_id = ANY ($1::bigint[]) ORDER BY c.account_id, c.made_ms, c.token

-- name: has_account
-- $1 account.
SELECT EXISTS (SELECT FROM account WHERE account_id = $1)

-- name: known_tokens
-- $1 tokens. Returns those of cards that exist.
SELECT token FROM card WHERE token = ANY ($1::bytea[])

-- name: new_account_ids
-- $1 how many.
SELECT nextval(pg_get_serial_sequence('account', 'account_id')) AS account_id FROM generate_series(1, $1)

-- name: add_cards
-- $1 tokens, $2 accounts, $3 kinds, $4 masked numbers, $5 statuses, $6 batch or null, $7 now. Returns the tokens that were not there before.
INSERT INTO card (token, account_id, kind, masked, status, batch_id, made_ms)
SELECT given.*, $6, $7 FROM unnest($1::bytea[], $2::bigint[], $3::smallint[], $4::text[], $5::smallint[]) AS given
ON CONFLICT (token) DO NOTHING RETURNING token

-- name: add_batch
-- $1 name, $2 kind, $3 count, $4 status of the cards, $5 encrypted series, $6 now, $7 actor. Returns its id.
INSERT INTO card_batch (name, kind, count, status, numbers, made_ms, made_by) VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING batch_id

-- name: name_batch_numbers
-- $1 batch, $2 encrypted series.
UPDATE card_batch SET numbers = $2 WHERE batch_id = $1

-- name: batches
-- $1 only those before this id, $2 at most so many, $3 only this one or null. Newest first; how many of its cards have which status.
SELECT b.batch_id, b.name, b.kind, b.count, b.numbers, b.made_ms, b.made_by,
    coalesce(n.issued, 0) AS issued, coalesce(n.active, 0) AS active, coalesce(n.blocked, 0) AS blocked, coalesce(n.replaced, 0) AS replaced
FROM (SELECT * FROM card_batch WHERE batch_id < $1 AND ($3::integer IS NULL OR batch_id = $3) ORDER BY batch_id DESC LIMIT $2) b
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE status = 0) AS issued, count(*) FILTER (WHERE status = 1) AS active,
        count(*) FILTER (WHERE status = 2) AS blocked, count(*) FILTER (WHERE status = 3) AS replaced
    FROM card c WHERE c.batch_id = b.batch_id
) n ON true
ORDER BY b.batch_id DESC
