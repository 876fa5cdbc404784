"""Whose books these are. Central accounts, which each agent opens under its own BIC, tell where there are some."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCHEMA = """
CREATE TABLE owner (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    bic text NOT NULL,
    named_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO owner (bic) SELECT participant FROM account WHERE kind = 'central' ORDER BY id LIMIT 1;
CREATE TRIGGER owner_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON owner
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
GRANT SELECT ON owner TO concordat_app;
GRANT INSERT (bic) ON owner TO concordat_app;
"""


def upgrade() -> None:
    op.execute(SCHEMA)


def downgrade() -> None:
    raise RuntimeError("the books aren't taken back: restore a backup instead")
