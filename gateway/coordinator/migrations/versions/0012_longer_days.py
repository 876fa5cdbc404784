"""A day of more than 9,999 cycles."""

from alembic import op

revision = "0012"
down_revision = "0011"

SCRIPT = """
ALTER TABLE cycles DROP CONSTRAINT cycles_id_check, DROP CONSTRAINT cycles_number_check,
    ADD CONSTRAINT cycles_id_check CHECK (id ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{2,5}$'),
    ADD CONSTRAINT cycles_number_check CHECK (number BETWEEN 1 AND 99999);
"""


def upgrade() -> None:
    op.execute(SCRIPT)
