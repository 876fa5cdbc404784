"""What one person proposed for another one to confirm, and how far sanctions lists have lost names.

Columns with a constant default change the catalogue only.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SCHEMA = """
CREATE TABLE proposal (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('opening', 'list')),
    subject text NOT NULL,
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    person text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX proposal_sha256 ON proposal (sha256);
CREATE TRIGGER proposal_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON proposal
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
GRANT SELECT, INSERT ON proposal TO concordat_app;

-- How many names of the list before it an import took out, and who proposed one that needed two people.
ALTER TABLE screening_list
    ADD COLUMN names_lost integer NOT NULL DEFAULT 0 CHECK (names_lost >= 0),
    ADD COLUMN proposed_by text;
"""


def upgrade() -> None:
    op.execute(SCHEMA)


def downgrade() -> None:
    raise RuntimeError("a ledger isn't taken back: restore a backup instead")
