-- What operators keep: who may come in, personal data, versions of rules, and who did what. Times end in _ms (since 1970 UTC), points and money
-- are minor units, an `actor` is "user:3", "token:7", "member:12" or "system". What is "encrypted" is AES-GCM by the application.

-- First what reads the whole journal: meanwhile nothing is committed, but all can be read, which what follows forbids.
-- What one account gave up comes in at one other account only, whoever asks and wherever it is decided.
CREATE UNIQUE INDEX entry_merge_in ON entry (target) WHERE op = 48;
-- What was decided since the last look, for figures. Rows come in the order of time, so all go to the index's last page. It is no BRIN index: what
-- no vacuum has summarised yet, which are minutes at the least, that would have to be read each time.
CREATE INDEX entry_at ON entry (at_ms);
-- From which accounts a card was taken (UNLINK): its requests of that time are still theirs.
CREATE INDEX entry_unlink ON entry (cards) WHERE op = 51;

ALTER TABLE partner ADD COLUMN active boolean NOT NULL DEFAULT true;
ALTER TABLE network ADD COLUMN active boolean NOT NULL DEFAULT true;
ALTER TABLE store ADD COLUMN active boolean NOT NULL DEFAULT true;
-- A revoked terminal never comes back: its keys are gone.
ALTER TABLE terminal ADD COLUMN revoked_ms bigint;
CREATE INDEX terminal_store ON terminal (store_id);
CREATE TRIGGER store_changed AFTER UPDATE OR DELETE ON store FOR EACH STATEMENT EXECUTE FUNCTION programme_changed();

-- Every set of rules that was ever saved. The table `rules` holds those of them that are, were or will be in force.
CREATE TABLE rules_version (
    version bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    network_id integer NOT NULL REFERENCES network,
    valid_from_ms bigint NOT NULL,
    rules jsonb NOT NULL,
    note text NOT NULL DEFAULT '',
    made_ms bigint NOT NULL,
    made_by text NOT NULL,
    copy_of bigint REFERENCES rules_version,
    withdrawn_ms bigint,
    withdrawn_by text
);
CREATE INDEX rules_version_network ON rules_version (network_id, version);
CREATE UNIQUE INDEX rules_version_valid ON rules_version (network_id, valid_from_ms) WHERE withdrawn_ms IS NULL;
INSERT INTO rules_version (network_id, valid_from_ms, rules, note, made_ms, made_by)
SELECT network_id, valid_from_ms, to_jsonb(r) - 'network_id' - 'valid_from_ms', 'before versions were kept',
    (extract(epoch FROM now()) * 1000)::bigint, 'system'
FROM rules r ORDER BY network_id, valid_from_ms;

-- A batch of cards as it went to the printer; `numbers` (encrypted) is what the card numbers are made from.
CREATE TABLE card_batch (
    batch_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    kind smallint NOT NULL,
    count integer NOT NULL CHECK (count > 0),
    status smallint NOT NULL CHECK (status IN (0, 1)),
    numbers bytea NOT NULL,
    made_ms bigint NOT NULL,
    made_by text NOT NULL
);
ALTER TABLE card ADD COLUMN batch_id integer REFERENCES card_batch;
ALTER TABLE card ADD COLUMN made_ms bigint NOT NULL DEFAULT (extract(epoch FROM now()) * 1000)::bigint;
CREATE INDEX card_of_batch ON card (batch_id, status) WHERE batch_id IS NOT NULL;

ALTER TABLE personal.member
    ALTER COLUMN greeting DROP NOT NULL,
    ADD COLUMN data bytea,
    ADD COLUMN version integer NOT NULL DEFAULT 1,
    ADD COLUMN created_ms bigint NOT NULL DEFAULT 0,
    ADD COLUMN changed_ms bigint NOT NULL DEFAULT 0,
    ADD COLUMN erased_ms bigint;

-- Finds members by what they say of themselves, without telling anybody who reads this table: 16-byte keyed hashes.
CREATE TABLE personal.lookup (
    kind smallint NOT NULL,
    hash bytea NOT NULL CHECK (length(hash) = 16),
    account_id bigint NOT NULL REFERENCES personal.member ON DELETE CASCADE,
    PRIMARY KEY (kind, hash, account_id)
);
CREATE INDEX lookup_account ON personal.lookup (account_id);

-- Every change of personal data: who, when, in which store, which fields; what they were before is encrypted, and gone once erased.
CREATE TABLE personal.change (
    change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id bigint NOT NULL,
    at_ms bigint NOT NULL,
    actor text NOT NULL,
    store_id integer REFERENCES store,
    fields text[] NOT NULL,
    before bytea
);
CREATE INDEX change_account ON personal.change (account_id, change_id);

CREATE SCHEMA office;

-- People who sign in. Without a password hash nobody can: the invitation has not been used yet.
CREATE TABLE office.console_user (
    user_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text NOT NULL,
    name text NOT NULL,
    role text NOT NULL CHECK (role IN ('owner', 'operator', 'marketer', 'auditor', 'partner')),
    partner_id integer REFERENCES partner,
    language text NOT NULL DEFAULT 'en',
    password_hash text,
    totp_secret bytea,
    totp_step bigint NOT NULL DEFAULT 0,
    active boolean NOT NULL DEFAULT true,
    failures integer NOT NULL DEFAULT 0,
    locked_until_ms bigint NOT NULL DEFAULT 0,
    created_ms bigint NOT NULL,
    CHECK ((role = 'partner') = (partner_id IS NOT NULL))
);
CREATE UNIQUE INDEX console_user_email ON office.console_user (lower(email));

-- Links, sessions and tokens are random; what lies here is their SHA-256, which opens nothing. `person` is who made the token, or whose token made it.
CREATE TABLE office.invitation (
    hash bytea PRIMARY KEY CHECK (length(hash) = 32),
    user_id integer NOT NULL REFERENCES office.console_user,
    created_ms bigint NOT NULL,
    expires_ms bigint NOT NULL,
    used_ms bigint
);
CREATE TABLE office.session (
    hash bytea PRIMARY KEY CHECK (length(hash) = 32),
    user_id integer NOT NULL REFERENCES office.console_user,
    created_ms bigint NOT NULL,
    seen_ms bigint NOT NULL,
    expires_ms bigint NOT NULL,
    address text NOT NULL DEFAULT '',
    agent text NOT NULL DEFAULT ''
);
CREATE INDEX session_of_user ON office.session (user_id);
CREATE TABLE office.api_token (
    token_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    name text NOT NULL,
    permissions text[] NOT NULL,
    partner_id integer REFERENCES partner,
    created_by text NOT NULL,
    person text NOT NULL,
    created_ms bigint NOT NULL,
    expires_ms bigint NOT NULL,
    revoked_ms bigint,
    used_ms bigint
);
CREATE TABLE office.member_token (
    hash bytea PRIMARY KEY CHECK (length(hash) = 32),
    account_id bigint NOT NULL REFERENCES account,
    created_by text NOT NULL,
    created_ms bigint NOT NULL,
    expires_ms bigint NOT NULL
);
CREATE INDEX member_token_account ON office.member_token (account_id);
CREATE INDEX member_token_expires ON office.member_token (expires_ms);

-- Every write, and every look at personal data. No personal data in `detail`.
CREATE TABLE office.audit (
    audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms bigint NOT NULL,
    actor text NOT NULL,
    actor_name text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    account_id bigint,
    partner_id integer,
    store_id integer,
    request_id bytea,
    address text NOT NULL DEFAULT '',
    detail jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_at ON office.audit (at_ms);
CREATE INDEX audit_actor ON office.audit (actor, audit_id);
CREATE INDEX audit_account ON office.audit (account_id, audit_id) WHERE account_id IS NOT NULL;
CREATE INDEX audit_subject ON office.audit (subject, audit_id);
CREATE INDEX audit_partner ON office.audit (partner_id, audit_id) WHERE partner_id IS NOT NULL;
CREATE INDEX audit_request ON office.audit (request_id) WHERE request_id IS NOT NULL;

-- What a POST with an Idempotency-Key was answered (encrypted), so that a repetition gets the same and does nothing. Without a status it runs
-- since `claimed_ms` on behalf of whoever drew `claim`, or (0) nobody knows what became of it.
CREATE TABLE office.idempotency (
    actor text NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    at_ms bigint NOT NULL,
    claim bigint NOT NULL,
    claimed_ms bigint NOT NULL,
    status integer,
    answer bytea,
    PRIMARY KEY (actor, key)
);
CREATE INDEX idempotency_at ON office.idempotency (at_ms);

-- Manual adjustments that wait for a second pair of eyes, or had it. The persons are those behind the actors: a token is no pair of eyes of its own.
CREATE TABLE office.adjustment (
    adjustment_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES account,
    points bigint NOT NULL CHECK (points <> 0),
    expiry_day integer NOT NULL,
    reason text NOT NULL,
    request_id bytea NOT NULL UNIQUE,
    state text NOT NULL CHECK (state IN ('waiting', 'approved', 'declined', 'done')),
    asked_by text NOT NULL,
    asked_person text NOT NULL,
    asked_ms bigint NOT NULL,
    decided_by text,
    decided_person text,
    decided_ms bigint,
    CHECK ((decided_by IS NULL) = (decided_person IS NULL)),
    CHECK (decided_person IS DISTINCT FROM asked_person)
);
CREATE INDEX adjustment_open ON office.adjustment (adjustment_id) WHERE state IN ('waiting', 'approved');
CREATE INDEX adjustment_account ON office.adjustment (account_id, adjustment_id);

-- Two accounts of one person becoming one: what the source gave up (a journaled entry) comes in at the target by another one.
CREATE TABLE office.merge (
    merge_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source bigint NOT NULL UNIQUE REFERENCES account,
    target bigint NOT NULL REFERENCES account,
    request_out bytea NOT NULL UNIQUE,
    request_in bytea NOT NULL UNIQUE,
    state text NOT NULL CHECK (state IN ('asked', 'out', 'done', 'declined')),
    reason text NOT NULL,
    asked_by text NOT NULL,
    asked_ms bigint NOT NULL,
    done_ms bigint,
    CHECK (source <> target)
);
CREATE INDEX merge_target ON office.merge (target);
CREATE INDEX merge_open ON office.merge (merge_id) WHERE state IN ('asked', 'out');

-- Figures. `tally` is what workers answered, by minute (since 1970) and store; `flow` what the journal says of the same minute.
CREATE TABLE office.tally (
    minute bigint NOT NULL,
    store_id integer NOT NULL,
    op smallint NOT NULL,
    outcome smallint NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (minute, store_id, op, outcome)
);
CREATE TABLE office.flow (
    minute bigint NOT NULL,
    store_id integer NOT NULL,
    network_id integer NOT NULL,
    op smallint NOT NULL,
    entries bigint NOT NULL,
    receipts bigint NOT NULL,
    amount bigint NOT NULL,
    points bigint NOT NULL,
    spent bigint NOT NULL,
    earned bigint NOT NULL,
    PRIMARY KEY (minute, store_id, network_id, op)
);
CREATE INDEX tally_store ON office.tally (store_id, minute);
CREATE INDEX flow_store ON office.flow (store_id, minute);
-- The same by network: what is shown of a chain with thousands of stores must not be added up from them each time.
CREATE TABLE office.network_tally (
    minute bigint NOT NULL,
    network_id integer NOT NULL,
    outcome smallint NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (minute, network_id, outcome)
);
CREATE TABLE office.network_flow (
    minute bigint NOT NULL,
    network_id integer NOT NULL,
    op smallint NOT NULL,
    entries bigint NOT NULL,
    receipts bigint NOT NULL,
    amount bigint NOT NULL,
    points bigint NOT NULL,
    spent bigint NOT NULL,
    earned bigint NOT NULL,
    PRIMARY KEY (minute, network_id, op)
);
-- How far each gathering of figures is: the first minute (of samples: the first ms) that is not done.
CREATE TABLE office.gathered (
    what text PRIMARY KEY,
    until bigint NOT NULL
);
CREATE TABLE office.sample (
    at_ms bigint PRIMARY KEY,
    figures jsonb NOT NULL
);
CREATE TABLE office.standing (
    at_ms bigint PRIMARY KEY,
    accounts bigint NOT NULL,
    balance bigint NOT NULL,
    held bigint NOT NULL,
    owed bigint NOT NULL,
    cards_issued bigint NOT NULL,
    cards_active bigint NOT NULL
);
