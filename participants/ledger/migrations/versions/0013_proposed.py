"""What exactly somebody proposes, for whoever is to confirm it. Proposals of before don't say."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

SCHEMA = """
ALTER TABLE proposal ADD COLUMN content jsonb NOT NULL DEFAULT '{}';
"""


def upgrade() -> None:
    op.execute(SCHEMA)


def downgrade() -> None:
    raise RuntimeError("a ledger isn't taken back: restore a backup instead")
