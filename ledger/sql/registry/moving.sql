-- name: installation
-- Returns what must stay as it is while accounts are changed past their owners. The row is shared, so that the number of partitions cannot change.
SELECT p.partitions, p.time_zone, (SELECT coalesce(sum(o.epoch), 0)::bigint FROM partition o) AS epochs FROM programme p FOR SHARE OF p
-- name: take_session
-- $1 class of the locks, $2 partitions: whether nobody owns a partition, and nobody can until this session ends.
SELECT coalesce(bool_and(pg_try_advisory_lock_shared($1, number)), true) FROM generate_series(0, $2::integer - 1) AS number
-- name: take
-- $1 class of the locks, $2 partitions: the same until the end of the transaction.
SELECT coalesce(bool_and(pg_try_advisory_xact_lock_shared($1, number)), true) FROM generate_series(0, $2::integer - 1) AS number
-- name: void
-- Fence former owners, and void what Redis remembers of every account.
UPDATE partition SET epoch = epoch + 1, generation = another_generation(generation), owner = '', wanted_by = ''
-- name: owners
SELECT o.partition_id, o.owner FROM partition o, programme p WHERE o.partition_id < p.partitions ORDER BY o.partition_id
-- name: people
-- $1 hashes of external ids. Returns whose they are, and what is known of those.
SELECT l.hash, l.account_id, m.data FROM personal.lookup l JOIN personal.member m USING (account_id) WHERE l.kind = 5 AND l.hash = ANY ($1::bytea[])
-- name: members
-- $1 accounts. Returns what is known of those that are members.
SELECT account_id, data, erased_ms FROM personal.member WHERE account_id = ANY ($1::bigint[])
-- name: cards
-- $1 tokens. Returns where they lead.
SELECT token, account_id, status FROM card WHERE token = ANY ($1::bytea[])
-- name: openings
-- $1 request ids. Returns the entries that were journaled under them.
SELECT request_id, account_id, earned FROM entry WHERE request_id = ANY ($1::bytea[])
-- name: openings_of
-- $1 accounts, $2 reference, $3 operation. Returns the opening balances that these accounts have.
SELECT account_id, request_id, moves FROM entry WHERE account_id = ANY ($1::bigint[]) AND op = $3 AND reference = $2
-- name: heads
-- $1 accounts. Returns their heads; whoever else wants to change them waits.
SELECT account_id, seq, link, state FROM account WHERE account_id = ANY ($1::bigint[]) ORDER BY account_id FOR UPDATE
-- name: new_accounts
-- $1 how many. Returns numbers that nobody else gets.
SELECT nextval(pg_get_serial_sequence('account', 'account_id')) FROM generate_series(1, $1::bigint)
-- name: move_on
-- $1 accounts, $2 seq and $3 link before, $4 seq, $5 link, $6 balance, $7 held, $8 owed, $9 due_ms, $10 state. Returns how many were where they should be.
WITH moved AS (
    UPDATE account a
    SET seq = g.seq, link = g.link, balance = g.balance, held = g.held, owed = g.owed, due_ms = g.due_ms, state = g.state
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bytea[])
        AS g (account_id, after_seq, after_link, seq, link, balance, held, owed, due_ms, state)
    WHERE a.account_id = g.account_id AND a.seq = g.after_seq AND a.link = g.after_link
    RETURNING 1
)
SELECT count(*) FROM moved
-- name: put_states
-- $1 accounts without a journal, $2 their states. Returns how many were without one.
WITH moved AS (
    UPDATE account a SET state = g.state
    FROM unnest($1::bigint[], $2::bytea[]) AS g (account_id, state) WHERE a.account_id = g.account_id AND a.seq = 0
    RETURNING 1
)
SELECT count(*) FROM moved
-- name: tell_member
-- $1 account, $2 data, $3 greeting, $4 now: what was not known of a member, or that this account has one.
INSERT INTO personal.member (account_id, data, greeting, created_ms, changed_ms) VALUES ($1, $2, $3, $4, $4)
ON CONFLICT (account_id) DO UPDATE SET data = excluded.data, greeting = excluded.greeting, changed_ms = $4, version = personal.member.version + 1
-- name: add_lookup
-- $1 kind, $2 hash, $3 account
INSERT INTO personal.lookup (kind, hash, account_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
-- name: count_openings
-- $1 request ids. Returns how many of them are journaled, and the points that came in by them.
SELECT count(*) AS rows, coalesce(sum(earned), 0)::bigint AS points FROM entry WHERE request_id = ANY ($1::bytea[])
-- name: count_people
-- $1 hashes of external ids. Returns how many of them lead to an account.
SELECT count(DISTINCT hash) FROM personal.lookup WHERE kind = 5 AND hash = ANY ($1::bytea[])
-- name: count_cards
-- $1 tokens. Returns how many of them are known.
SELECT count(*) FROM card WHERE token = ANY ($1::bytea[])
