"""Where the bank's events are sent, and how far each place has them; and what a cycle settled is found by the cycle."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

SCHEMA = """
CREATE INDEX lane_settled_cycle ON lane_settled (cycle);

-- `cursor` is the last event that the place has; `batch_through` the last one of what is being sent, so that it is
-- the same message however often it is tried. `lease` is the node that sends, until when it may. No secret is here:
-- it comes of a key in the key directory, and `secret_sha256` tells whether a node has that key.
CREATE TABLE webhook (
    id uuid PRIMARY KEY,
    url text NOT NULL,
    types text[] NOT NULL,
    account text,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    secret_generation integer NOT NULL DEFAULT 1 CHECK (secret_generation > 0),
    secret_sha256 bytea NOT NULL CHECK (octet_length(secret_sha256) = 32),
    previous_secret_until timestamptz,
    cursor bigint NOT NULL CHECK (cursor >= 0),
    batch_through bigint CHECK (batch_through > cursor),
    replays integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    failing_since timestamptz,
    last_error text,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    disabled text,
    lease uuid,
    leased_until timestamptz
);
GRANT SELECT, INSERT, UPDATE, DELETE ON webhook TO concordat_app;
"""


def upgrade() -> None:
    op.execute(SCHEMA)


def downgrade() -> None:
    raise RuntimeError("a ledger isn't taken back: restore a backup instead")
