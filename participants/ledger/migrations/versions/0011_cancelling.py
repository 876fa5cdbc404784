"""Payments that their sender withdraws, which are asked about apart from those that wait to be sent."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SCHEMA = """
ALTER TABLE payment_open DROP CONSTRAINT payment_open_state_check;
ALTER TABLE payment_open ADD CONSTRAINT payment_open_state_check
    CHECK (state IN ('queued', 'held', 'cancelling', 'recalled'));
CREATE INDEX payment_open_cancelling ON payment_open (counterparty, event_sequence) WHERE state = 'cancelling';
CREATE INDEX payment_open_recalled ON payment_open (direction, event_sequence) WHERE state = 'recalled';
"""


def upgrade() -> None:
    op.execute(SCHEMA)


def downgrade() -> None:
    raise RuntimeError("a ledger isn't taken back: restore a backup instead")
