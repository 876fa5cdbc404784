"""When an event counts, where that isn't when it was written: a settlement counts from the finality's time.

A nullable column without a default changes the catalogue only, however many events there are.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE event ADD COLUMN effective_at timestamptz")


def downgrade() -> None:
    raise RuntimeError("a ledger isn't taken back: restore a backup instead")
