"""What each currency of a result comes to, beside the signed document: that one names every pair, and may be long."""

from alembic import op

revision = "0011"
down_revision = "0010"

SCRIPT = """
ALTER TABLE results ADD COLUMN currencies json;
-- They follow from what was signed, so this changes nothing of it.
ALTER TABLE results DISABLE TRIGGER results_append_only;
UPDATE results SET currencies = convert_from(decode(envelope->>'payload', 'base64'), 'UTF8')::json->'results';
ALTER TABLE results ENABLE TRIGGER results_append_only;
ALTER TABLE results ALTER COLUMN currencies SET NOT NULL;
-- Digests in base64 don't become smaller by trying.
ALTER TABLE results ALTER COLUMN envelope SET STORAGE EXTERNAL;
ALTER TABLE instructions ALTER COLUMN envelope SET STORAGE EXTERNAL;
"""


def upgrade() -> None:
    op.execute(SCRIPT)
