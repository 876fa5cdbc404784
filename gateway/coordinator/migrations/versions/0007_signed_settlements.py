"""What was signed about a settlement: the coordinator's request (pacs.029) and the agent's answer (pacs.002).

`request` holds what release 0.1 sent without a signature.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

ATTEMPTS = """
ALTER TABLE settlement_attempts ADD COLUMN signed_request json;
ALTER TABLE settlement_attempts ADD COLUMN signed_answer json;
GRANT UPDATE (signed_request, signed_answer) ON settlement_attempts TO concordat_app;
"""


def upgrade() -> None:
    op.execute(ATTEMPTS)
