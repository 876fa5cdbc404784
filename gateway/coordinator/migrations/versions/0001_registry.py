"""Registry, access, trust list and the event log.

No column here can hold a payment, a customer or a customer's account: `tests/integration/test_coordinator_schema.py`
keeps the list of all that the coordinator may store.
"""

from alembic import op

revision = "0001"
down_revision = None

REGISTRY = """
CREATE TABLE members (
    bic text PRIMARY KEY CHECK (bic ~ '^[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}([A-Z0-9]{3})?$'),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 140),
    kind text NOT NULL CHECK (kind IN ('coordinator', 'participant', 'agent')),
    status text NOT NULL CHECK (status IN ('applied', 'approved', 'active', 'suspended', 'left')),
    status_since timestamptz NOT NULL DEFAULT now(),
    url text NOT NULL CHECK (length(url) <= 200),
    last_seen_at timestamptz
);
CREATE UNIQUE INDEX members_one_coordinator ON members (kind) WHERE kind = 'coordinator';

CREATE TABLE member_keys (
    kid text PRIMARY KEY,
    bic text NOT NULL REFERENCES members,
    x text NOT NULL UNIQUE CHECK (x ~ '^[A-Za-z0-9_-]{43}$'),
    use text NOT NULL CHECK (use IN ('auth', 'sign', 'token')),
    status text NOT NULL CHECK (status IN ('active', 'retired', 'revoked')),
    since timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX member_keys_bic ON member_keys (bic);

CREATE TABLE settlement_accounts (
    bic text PRIMARY KEY REFERENCES members,
    agent text NOT NULL,
    account text NOT NULL,
    UNIQUE (agent, account)
);

CREATE TABLE caps (
    bic text NOT NULL REFERENCES members,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    cap_minor numeric(38, 0) NOT NULL CHECK (cap_minor >= 0 AND cap_minor <> 'NaN'),
    PRIMARY KEY (bic, currency)
);
"""

ACCESS = """
CREATE TABLE clients (
    client_id text PRIMARY KEY CHECK (client_id ~ '^[a-z][a-z0-9._-]{0,63}$'),
    role text NOT NULL CHECK (role IN ('operator', 'auditor')),
    kid text NOT NULL UNIQUE,
    x text NOT NULL UNIQUE CHECK (x ~ '^[A-Za-z0-9_-]{43}$'),
    disabled boolean NOT NULL DEFAULT false
);

CREATE TABLE used_assertions (
    client_id text NOT NULL,
    jti text NOT NULL CHECK (length(jti) <= 200),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (client_id, jti)
);
"""

# `json`, unlike `jsonb`, keeps the text that was signed or hashed byte for byte.
PUBLISHED = """
CREATE TABLE trust_lists (
    version bigint PRIMARY KEY CHECK (version > 0),
    envelope json NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE rulebooks (
    sha256 text PRIMARY KEY CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    document json NOT NULL,
    adopted_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE events (
    id bigint PRIMARY KEY CHECK (id > 0),
    type text NOT NULL,
    at timestamptz NOT NULL,
    cycle text,
    data json NOT NULL,
    audience text[],
    prev_hash text NOT NULL UNIQUE CHECK (prev_hash ~ '^[0-9a-f]{64}$'),
    hash text NOT NULL UNIQUE CHECK (hash ~ '^[0-9a-f]{64}$')
);
CREATE INDEX events_cycle ON events (cycle, id) WHERE cycle IS NOT NULL;
CREATE INDEX events_rulebook ON events (id) WHERE type = 'rulebook.adopted';

CREATE FUNCTION announce_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('concordat_events', NEW.id::text);
    RETURN NULL;
END $$;
CREATE TRIGGER events_announce AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION announce_event();
"""

# An append-only table refuses change by everybody, its owner included, and not only for want of a grant.
APPEND_ONLY = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER trust_lists_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON trust_lists
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER rulebooks_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON rulebooks
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""

GRANTS = """
GRANT SELECT, INSERT ON events, trust_lists, rulebooks TO concordat_app;
GRANT SELECT, INSERT, UPDATE ON members, member_keys, settlement_accounts, caps, clients TO concordat_app;
GRANT SELECT, INSERT, DELETE ON used_assertions TO concordat_app;
"""


def upgrade() -> None:
    for script in (REGISTRY, ACCESS, PUBLISHED, APPEND_ONLY, GRANTS):
        op.execute(script)
