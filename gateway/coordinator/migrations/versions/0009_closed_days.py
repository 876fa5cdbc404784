"""Why currencies aren't in a cycle, and the days on which operators declared a currency closed."""

from alembic import op

revision = "0009"
down_revision = "0008"

SCRIPT = """
ALTER TABLE cycles ADD COLUMN closed json NOT NULL DEFAULT '{}';

CREATE TABLE closed_days (
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    day date NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (currency, day)
);
GRANT SELECT, INSERT, DELETE ON closed_days TO concordat_app;
"""


def upgrade() -> None:
    op.execute(SCRIPT)
