"""A cycle that can't go on: why, since when, and how often the step that is due has failed.

`version` counts the steps taken, so that what was computed from a cycle's state without holding its lock is stored only
if nothing has moved meanwhile.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

CYCLES = """
ALTER TABLE cycles ADD COLUMN version integer NOT NULL DEFAULT 0;
ALTER TABLE cycles ADD COLUMN failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0);
ALTER TABLE cycles ADD COLUMN failure_reason text;
ALTER TABLE cycles ADD COLUMN failure_detail text;
ALTER TABLE cycles ADD COLUMN failing_since timestamptz;
ALTER TABLE cycles ADD CONSTRAINT cycles_failures_have_a_reason CHECK (
    (failures > 0) = (failure_reason IS NOT NULL)
    AND (failures > 0) = (failure_detail IS NOT NULL)
    AND (failures > 0) = (failing_since IS NOT NULL)
);
"""


def upgrade() -> None:
    op.execute(CYCLES)
