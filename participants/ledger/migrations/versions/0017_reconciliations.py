"""Comparing the books with other banks: what was asked for or follows from a break, and what came of it."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

SCHEMA = """
-- Whoever works on one has it until `claimed_until`; then another node of the bank may.
CREATE TABLE reconciliation (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    counterparty text NOT NULL,
    currency char(3),
    cycle text,
    asked_by text,
    asked_at timestamptz NOT NULL DEFAULT now(),
    state text NOT NULL DEFAULT 'asked' CHECK (state IN ('asked', 'running', 'done', 'failed')),
    attempts smallint NOT NULL DEFAULT 0,
    claimed_until timestamptz,
    ended_at timestamptz,
    reason text,
    report json,
    CHECK ((cycle IS NULL) <> (asked_by IS NULL))
);
-- A break of a cycle is looked into once, however often it is heard of.
CREATE UNIQUE INDEX reconciliation_of_break ON reconciliation (cycle, counterparty, currency) WHERE cycle IS NOT NULL;
CREATE INDEX reconciliation_open ON reconciliation (number) WHERE state IN ('asked', 'running');
GRANT SELECT, INSERT, UPDATE ON reconciliation TO concordat_app;
"""


def upgrade() -> None:
    op.execute(SCHEMA)


def downgrade() -> None:
    raise RuntimeError("a ledger isn't taken back: restore a backup instead")
