"""What payments are found by, beside what the ledger has anyway; and what was ordered where an order was refused.

Columns that may be empty change the catalogue only, and the new index is of refused orders alone. `event_term` is
filled in the background from the journal, from its beginning on: nothing is read here, however long the journal is.
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

SCHEMA = """
-- `asked` is the order, with who made it; `head` the journal's last event when it was refused.
ALTER TABLE refusal ADD COLUMN head bigint, ADD COLUMN asked json;
CREATE INDEX refusal_head ON refusal (head, id);
CREATE INDEX refusal_payment ON refusal (payment_id);

-- Projection: the first 8 bytes of the SHA-256 of something that an event is found by (participants/search/terms.py).
-- It can be emptied, and the cursor set to 0: then it is filled anew.
CREATE TABLE event_term (
    term bytea NOT NULL CHECK (octet_length(term) = 8),
    event_sequence bigint NOT NULL,
    PRIMARY KEY (term, event_sequence)
);
CREATE TABLE event_term_cursor (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    through bigint NOT NULL
);
INSERT INTO event_term_cursor (through) VALUES (0);
GRANT SELECT, INSERT, DELETE ON event_term TO concordat_app;
GRANT SELECT, UPDATE ON event_term_cursor TO concordat_app;
"""


def upgrade() -> None:
    op.execute(SCHEMA)


def downgrade() -> None:
    raise RuntimeError("a ledger isn't taken back: restore a backup instead")
