"""Accounts that can be blocked, closed and renamed, internal accounts, and entries that the bank makes itself.

Columns with a constant default change the catalogue only.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SCHEMA = """
ALTER TABLE account
    DROP CONSTRAINT account_kind_check,
    ADD CONSTRAINT account_kind_check CHECK (
        kind IN ('customer', 'reserved', 'due_to', 'due_from', 'nostro', 'suspense', 'internal')
    );

-- Projection of the events on the account: what may be posted, the name it was given last (NULL: the first one stands),
-- and how many events these are.
ALTER TABLE account_balance
    ADD COLUMN state text NOT NULL DEFAULT 'open',
    ADD COLUMN name text,
    ADD COLUMN changes integer NOT NULL DEFAULT 0,
    ADD CONSTRAINT account_balance_state_check CHECK (state IN ('open', 'debits_blocked', 'blocked', 'closed')),
    ADD CONSTRAINT account_balance_closed_check CHECK (state <> 'closed' OR balance = 0);

-- Entries that the bank makes itself. What is outside (a slip, an invoice, an entry at another bank) is booked once.
CREATE TABLE own_entry (
    id uuid PRIMARY KEY,
    internal text NOT NULL,
    currency char(3) NOT NULL,
    reference text NOT NULL,
    event_sequence bigint NOT NULL,
    CONSTRAINT own_entry_reference UNIQUE (internal, currency, reference)
);
CREATE TRIGGER own_entry_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON own_entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
GRANT SELECT, INSERT ON own_entry TO concordat_app;

ALTER TABLE proposal
    DROP CONSTRAINT proposal_kind_check,
    ADD CONSTRAINT proposal_kind_check CHECK (kind IN ('opening', 'list', 'ceiling', 'entry', 'unblocking'));
"""


def upgrade() -> None:
    op.execute(SCHEMA)


def downgrade() -> None:
    raise RuntimeError("a ledger isn't taken back: restore a backup instead")
