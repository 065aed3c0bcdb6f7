-- What a redemption needs at least, for both peers: accounts with a balance, and their journal. No lots, cards, terminals
-- or rules. Points are minor units. :accounts is replaced by the number of accounts.

CREATE TABLE account (
    account_id bigint PRIMARY KEY,
    balance bigint NOT NULL CHECK (balance >= 0),
    seq bigint NOT NULL
    -- Room on each page, so that an update touches no index.
) WITH (fillfactor = 70);
INSERT INTO account SELECT n, 1000000000, 0 FROM generate_series(1, :accounts) AS n;

CREATE TABLE entry (
    account_id bigint NOT NULL,
    seq bigint NOT NULL,
    request_id uuid NOT NULL CONSTRAINT entry_request UNIQUE,
    terminal_id integer NOT NULL,
    points bigint NOT NULL,
    balance_after bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    answer bytea NOT NULL,
    PRIMARY KEY (account_id, seq)
);
