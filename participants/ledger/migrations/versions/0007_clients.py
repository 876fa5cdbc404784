"""Whose ledger this is; and the people and systems that sign in at the bank by keys of their own.

A ledger of before belongs to the bank that its cuts name. One without any takes the name of
the first node that serves it (`gateway/federation/storage/owner.py`).
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SCHEMA = """
CREATE TABLE owner (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    bic text NOT NULL,
    named_at timestamptz NOT NULL DEFAULT now()
);

-- Version 1 of a cut stands in its envelope alone.
INSERT INTO owner (bic)
    SELECT CASE schema_version
        WHEN 1 THEN convert_from(decode(data -> 'envelopes' -> 0 ->> 'payload', 'base64'), 'UTF8')::json ->> 'receiver'
        ELSE data -> 'cut' ->> 'receiver'
    END FROM event WHERE type = 'cycle.cut' ORDER BY sequence DESC LIMIT 1;

-- One key of a client, with what a token got by it may be for. A key is one client's, once and for all.
CREATE TABLE client_key (
    kid text PRIMARY KEY,
    client_id text NOT NULL CHECK (client_id ~ '^[a-z][a-z0-9._-]{0,63}$'),
    x text NOT NULL UNIQUE,
    roles text[] NOT NULL CHECK (cardinality(roles) > 0),
    scope text NOT NULL DEFAULT '',
    expires_at timestamptz,
    registered_by text NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX client_key_client_id ON client_key (client_id);
CREATE TABLE client_key_revocation (
    kid text PRIMARY KEY REFERENCES client_key (kid),
    revoked_by text NOT NULL,
    reason text NOT NULL,
    revoked_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE used_assertion (
    client_id text NOT NULL,
    jti text NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (client_id, jti)
);
GRANT SELECT, INSERT, DELETE ON used_assertion TO concordat_app;
"""


def upgrade() -> None:
    op.execute(SCHEMA)
    for table in ("owner", "client_key", "client_key_revocation"):
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(f"GRANT SELECT, INSERT ON {table} TO concordat_app")


def downgrade() -> None:
    raise RuntimeError("a ledger isn't taken back: restore a backup instead")
