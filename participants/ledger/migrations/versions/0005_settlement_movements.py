"""What the settlement agent says it did with this bank's money, as it signed it, and what people say of it."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SCHEMA = """
-- One entry on this bank's account at an agent. `id` is its number in the agent's feed of notifications, `sequence`
-- its number on the account; `signed` is the camt.054 under the agent's signature.
CREATE TABLE settlement_movement (
    agent text NOT NULL,
    id bigint NOT NULL CHECK (id > 0),
    currency char(3) NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    amount bigint NOT NULL CHECK (amount <> 0),
    cycle text,
    reference text NOT NULL,
    signed json NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent, id)
);
CREATE TABLE movement_explanation (
    agent text NOT NULL,
    id bigint NOT NULL,
    reason text NOT NULL,
    explained_by text NOT NULL,
    explained_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent, id),
    FOREIGN KEY (agent, id) REFERENCES settlement_movement (agent, id)
);
"""


def upgrade() -> None:
    op.execute(SCHEMA)
    for table in ("settlement_movement", "movement_explanation"):
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(f"GRANT SELECT, INSERT ON {table} TO concordat_app")


def downgrade() -> None:
    raise RuntimeError("a ledger isn't taken back: restore a backup instead")
