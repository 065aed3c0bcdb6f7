-- Relays: a store's own computer that speaks to its registers and, over MQTT, to the bridge.

-- A relay is a terminal of its store that nobody can sign on as: what it reserves is journaled under it, and it is suspended and revoked like any.
-- Its key is derived from the server's secrets, its code and `generation`, so that it stands nowhere; the next generation is another key.
-- `allowance_points` is what it may reserve for a card to be spent off line, 0 = nothing, and `allowance_ms` how long that may be spent.
-- The rest is what it last said of itself: how many requests wait in the store, since when the oldest of them does, and since when it was alone.
CREATE TABLE relay (
    terminal_id integer PRIMARY KEY REFERENCES terminal,
    generation integer NOT NULL DEFAULT 1 CHECK (generation > 0),
    allowance_points bigint NOT NULL DEFAULT 0 CHECK (allowance_points >= 0),
    allowance_ms bigint NOT NULL DEFAULT 86400000 CHECK (allowance_ms > 0),
    software text NOT NULL DEFAULT '',
    heard_ms bigint,
    queued bigint,
    oldest_ms bigint,
    offline_since_ms bigint
);

-- A roster is as new as the programme: what a relay may reserve, a new key of it and a new register of its store change the version.
CREATE TRIGGER relay_changed AFTER INSERT OR DELETE OR UPDATE OF generation, allowance_points, allowance_ms ON relay
    FOR EACH STATEMENT EXECUTE FUNCTION programme_changed();
CREATE FUNCTION roster_grew() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM added JOIN terminal t USING (store_id) JOIN relay r ON r.terminal_id = t.terminal_id) THEN
        UPDATE programme SET version = version + 1;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER terminal_added AFTER INSERT ON terminal REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION roster_grew();

-- What a relay had approved while it was alone, and headquarters then declined: somebody must look at it.
-- `op`, `points`, `amount`, `currency` and `reference` are the register's; REVERSE and RELEASE name in `reference` what they are about, in hex.
-- `outcome` is the decline; below 100 it is the code of an ERROR (SPEC.md, error codes). `masked` is how the card may be shown.
CREATE TABLE office.conflict (
    conflict_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id bytea NOT NULL CHECK (length(request_id) = 16),
    relay_id integer NOT NULL REFERENCES relay,
    terminal_id integer NOT NULL REFERENCES terminal,
    account_id bigint REFERENCES account,
    op smallint NOT NULL,
    outcome smallint NOT NULL,
    masked text NOT NULL,
    points bigint NOT NULL,
    amount bigint NOT NULL,
    currency text NOT NULL,
    reference text NOT NULL,
    sale_ms bigint NOT NULL,
    at_ms bigint NOT NULL,
    settled_by text,
    settled_ms bigint,
    note text NOT NULL DEFAULT '',
    UNIQUE (request_id, terminal_id),
    CHECK ((settled_by IS NULL) = (settled_ms IS NULL))
);
CREATE INDEX conflict_open ON office.conflict (conflict_id) WHERE settled_ms IS NULL;
CREATE INDEX conflict_account ON office.conflict (account_id);
