"""A signed result of many banks in parts: it names every pair, and one of 2,000 banks has hundreds of megabytes."""

from alembic import op

revision = "0013"
down_revision = "0012"

# Of a result that is kept in parts `results.envelope` holds everything but the payload, whose JSON text the parts are.
# What was kept whole stays so.
SCRIPT = """
CREATE TABLE result_parts (
    result text NOT NULL REFERENCES results (sha256),
    number integer NOT NULL CHECK (number >= 0),
    part text NOT NULL,
    PRIMARY KEY (result, number)
);
-- Digests don't become smaller by trying.
ALTER TABLE result_parts ALTER COLUMN part SET STORAGE EXTERNAL;
CREATE TRIGGER result_parts_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON result_parts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
GRANT SELECT, INSERT ON result_parts TO concordat_app;
"""


def upgrade() -> None:
    op.execute(SCRIPT)
