"""Batches that have an id, what was answered on each of their orders, and orders of files of earlier releases.

Those got their ids from the bytes of a file and a line, so that another file with the same row paid again. They are
found by their content from now on: reading them goes through the journal once.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SCHEMA = """
CREATE TABLE batch (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    made_by text NOT NULL,
    recorded_at timestamptz NOT NULL
);
CREATE TRIGGER batch_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON batch
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The last answer on each order of a batch, in the transaction that decided on it. One that was taken stays taken.
CREATE TABLE batch_order (
    batch_id uuid NOT NULL,
    payment_id uuid NOT NULL,
    line integer NOT NULL CHECK (line > 0),
    outcome text NOT NULL CHECK (outcome IN ('taken', 'known', 'refused')),
    reason text,
    PRIMARY KEY (batch_id, payment_id)
);
CREATE INDEX batch_order_line ON batch_order (batch_id, line, payment_id);
CREATE INDEX batch_order_taken ON batch_order (payment_id) WHERE outcome = 'taken';

CREATE TABLE earlier_order (
    payment_id uuid PRIMARY KEY,
    content bytea NOT NULL CHECK (octet_length(content) = 32),
    event_sequence bigint NOT NULL
);
INSERT INTO earlier_order (payment_id, content, event_sequence)
SELECT e.subject, sha256(convert_to(concat_ws(chr(31),
    o->>'debtor_account', normalize(btrim(o->>'debtor_name')), o->>'creditor_agent', o->>'creditor_account',
    normalize(btrim(o->>'creditor_name')), o->>'amount_minor', o->>'currency',
    normalize(btrim(coalesce(o->>'remittance', '')))), 'UTF8')), e.sequence
FROM event e, LATERAL (SELECT coalesce(e.data->'order', e.data) AS o) AS ordered
-- An id that follows from a name is a UUID of version 5.
WHERE e.version = 1 AND e.type IN ('payment.reserved', 'payment.held_out') AND substr(e.subject::text, 15, 1) = '5'
  AND o->>'returns' IS NULL;
CREATE INDEX earlier_order_content ON earlier_order (content);

GRANT SELECT, INSERT ON batch TO concordat_app;
GRANT SELECT, INSERT, UPDATE ON batch_order TO concordat_app;
GRANT SELECT ON earlier_order TO concordat_app;
"""


def upgrade() -> None:
    op.execute(SCHEMA)


def downgrade() -> None:
    raise RuntimeError("a ledger isn't taken back: restore a backup instead")
