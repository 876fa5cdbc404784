"""That the ledger was found to be restored to a backup of before, and what shows it.

It stands in the database it is about: a newer backup that takes its place doesn't have it.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCHEMA = """
CREATE TABLE restored (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    noticed_at timestamptz NOT NULL,
    finding json NOT NULL
);
GRANT SELECT, INSERT ON restored TO concordat_app;
"""


def upgrade() -> None:
    op.execute(SCHEMA)


def downgrade() -> None:
    raise RuntimeError("a ledger isn't taken back: restore a backup instead")
