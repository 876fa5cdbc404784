"""The check of entries costs by the posting, however many accounts there are.

Of a statement with many postings the accounts are read as a whole, as ever; of one with few, or where there are many
accounts, each posting's account is looked up.
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

SCHEMA = """
CREATE OR REPLACE FUNCTION require_balanced_entries() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong record;
BEGIN
    -- A look-up costs about as much as reading ten accounts. The planner doesn't know how many postings there are.
    IF (SELECT count(*) FROM inserted) * 10 < (SELECT reltuples FROM pg_class WHERE oid = 'account'::regclass) THEN
        SELECT p.event_sequence, p.currency, sum(p.amount) AS difference INTO wrong
        FROM (
            SELECT i.event_sequence, i.amount, (SELECT a.currency FROM account a WHERE a.id = i.account_id) AS currency
            FROM inserted i
        ) p
        GROUP BY p.event_sequence, p.currency
        HAVING sum(p.amount) <> 0 OR p.currency IS NULL
        LIMIT 1;
    ELSE
        SELECT p.event_sequence, a.currency, sum(p.amount) AS difference INTO wrong
        FROM inserted p LEFT JOIN account a ON a.id = p.account_id
        GROUP BY p.event_sequence, a.currency
        HAVING sum(p.amount) <> 0 OR a.currency IS NULL
        LIMIT 1;
    END IF;
    IF FOUND THEN
        RAISE EXCEPTION 'entry % is out of balance by % %', wrong.event_sequence, wrong.difference,
            coalesce(wrong.currency, '(unknown account)') USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
"""


def upgrade() -> None:
    op.execute(SCHEMA)


def downgrade() -> None:
    raise RuntimeError("a ledger isn't taken back: restore a backup instead")
