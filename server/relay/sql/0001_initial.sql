-- A relay's store, version 1. Times are ms since 1970 UTC, by headquarters' clock as far as it is known.
-- `card` is always a hash under this store's own key; the cards themselves stand only in queued.message and allowance, until headquarters has answered.

-- Small values by name: the key of the hashes, and what the relay wants to know after a restart.
CREATE TABLE kept (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

-- What the relay answered itself. `target` is the request that a REVERSE names; `fate` 0 waits for headquarters, 1 done, 2 conflict.
CREATE TABLE answer (
    request_id BLOB PRIMARY KEY CHECK (length(request_id) = 16),
    fingerprint BLOB NOT NULL,
    card BLOB NOT NULL,
    target BLOB,
    body BLOB NOT NULL,
    fate INTEGER NOT NULL DEFAULT 0,
    answered_ms INTEGER,
    CHECK ((fate = 0) = (answered_ms IS NULL))
) WITHOUT ROWID;
CREATE INDEX answer_answered ON answer (answered_ms) WHERE answered_ms IS NOT NULL;

-- What headquarters has not answered yet, in the order of taking. AUTOINCREMENT: a number never comes twice, so that a reader can go on behind one.
-- All of one lane go one after the other: those of a card, and a REVERSE with what it names.
CREATE TABLE queued (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id BLOB NOT NULL UNIQUE REFERENCES answer,
    lane BLOB NOT NULL,
    terminal TEXT NOT NULL,
    message BLOB NOT NULL,
    sale_ms INTEGER NOT NULL,
    taken_ms INTEGER NOT NULL,
    hold_id BLOB
);

-- What headquarters did not approve of; `outcome` or `error` is the code of SPEC.md.
CREATE TABLE conflict (
    conflict_id INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id BLOB NOT NULL UNIQUE,
    terminal TEXT NOT NULL,
    op INTEGER NOT NULL,
    masked TEXT NOT NULL,
    points INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    currency TEXT NOT NULL,
    reference TEXT NOT NULL,
    sale_ms INTEGER NOT NULL,
    answered_ms INTEGER NOT NULL,
    outcome INTEGER,
    error INTEGER
);

-- The last balance that headquarters told of a card.
CREATE TABLE balance (
    card BLOB PRIMARY KEY,
    available INTEGER NOT NULL,
    held INTEGER NOT NULL,
    pending INTEGER NOT NULL,
    owed INTEGER NOT NULL,
    expiring_points INTEGER NOT NULL,
    expiring_on INTEGER NOT NULL,
    at_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX balance_at ON balance (at_ms);

-- Points that headquarters set aside for this store: `state` 0 asked, 1 granted, 2 spent by a queued REDEEM, 3 to be released.
-- The row holds the card (`kind`, `value`), because without it nothing can be released.
CREATE TABLE allowance (
    hold_id BLOB PRIMARY KEY CHECK (length(hold_id) = 16),
    card BLOB NOT NULL UNIQUE,
    kind INTEGER NOT NULL,
    value TEXT NOT NULL,
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3),
    points INTEGER NOT NULL,
    from_ms INTEGER NOT NULL,
    until_ms INTEGER NOT NULL
) WITHOUT ROWID;
