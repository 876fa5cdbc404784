"""Operators' decisions as signatures, the register of operators, and proposals on more than cycles.

A proposal of before was signed by nobody; whatever of these isn't decided can't be confirmed any more.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

PROPOSALS = """
ALTER TABLE proposals ALTER COLUMN cycle DROP NOT NULL;
ALTER TABLE proposals ALTER COLUMN action DROP NOT NULL;
ALTER TABLE proposals ADD COLUMN act json;
ALTER TABLE proposals ADD COLUMN proposed json;
ALTER TABLE proposals ADD COLUMN answered json;
ALTER TABLE proposals ADD COLUMN proposed_sha256 text UNIQUE;
ALTER TABLE proposals ADD COLUMN withdrawn_at timestamptz;
ALTER TABLE proposals ADD CONSTRAINT proposals_say_what CHECK (
    (cycle IS NULL) = (action IS NULL) AND (cycle IS NOT NULL OR act IS NOT NULL)
);
ALTER TABLE proposals ADD CONSTRAINT proposals_withdrawn_or_decided CHECK (withdrawn_at IS NULL OR decision IS NULL);
CREATE INDEX proposals_pending ON proposals (made_at) WHERE decision IS NULL;
"""

REGISTERS = """
CREATE TABLE operator_registers (
    version bigint PRIMARY KEY CHECK (version > 0),
    envelope json NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER operator_registers_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON operator_registers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""

GRANTS = """
GRANT SELECT, INSERT ON operator_registers TO concordat_app;
GRANT UPDATE (answered, withdrawn_at) ON proposals TO concordat_app;
"""


def upgrade() -> None:
    for script in (PROPOSALS, REGISTERS, GRANTS):
        op.execute(script)
