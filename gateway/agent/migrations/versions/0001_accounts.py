"""Settlement accounts: the journal, the balances that follow from it, requests and their answers.

History is append-only for everybody. A balance is changed by a posting and by nothing else: the application's role
may insert postings, and the database itself moves the balance, so that the two can't drift apart.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;

-- One account per participant and currency. The central account of a currency is the other side of every funding:
-- what it is below zero is the central money that the participants hold.
CREATE TABLE account (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('participant', 'central')),
    participant text NOT NULL CHECK (participant ~ '^[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}([A-Z0-9]{3})?$'),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    overdraft_limit bigint NOT NULL DEFAULT 0 CHECK (overdraft_limit >= 0),
    balance bigint NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT 0,
    opened_at timestamptz NOT NULL DEFAULT now(),
    opened_by text NOT NULL,
    UNIQUE (participant, currency),
    UNIQUE (id, currency),
    CONSTRAINT account_within_limit CHECK (kind = 'central' OR balance >= -overdraft_limit)
);
CREATE TRIGGER account_stays BEFORE DELETE OR TRUNCATE ON account
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- `cause` is the request or funding behind an entry: each is posted at most once.
CREATE TABLE entry (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('settlement', 'funding')),
    cause text NOT NULL UNIQUE,
    value_date date NOT NULL,
    posted_at timestamptz NOT NULL,
    posted_by text NOT NULL
);

-- A credit is positive, a debit negative. `version` numbers the postings of an account without a gap.
CREATE TABLE posting (
    entry_id bigint NOT NULL REFERENCES entry (id),
    account_id bigint NOT NULL,
    currency text NOT NULL,
    amount bigint NOT NULL CHECK (amount <> 0),
    version bigint NOT NULL,
    balance bigint NOT NULL,
    PRIMARY KEY (account_id, version),
    UNIQUE (entry_id, account_id),
    FOREIGN KEY (account_id, currency) REFERENCES account (id, currency)
);

-- Moves the balance with the rights of the schema's owner, which the application doesn't have.
CREATE FUNCTION apply_posting() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE account SET balance = account.balance + NEW.amount, version = account.version + 1
        WHERE id = NEW.account_id RETURNING account.balance, account.version INTO NEW.balance, NEW.version;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no account %', NEW.account_id USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER posting_moves_balance BEFORE INSERT ON posting FOR EACH ROW EXECUTE FUNCTION apply_posting();

-- Whatever one statement posts is balanced per entry and currency, so every entry is.
CREATE FUNCTION require_balanced_entries() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong record;
BEGIN
    SELECT p.entry_id, p.currency, sum(p.amount) AS difference INTO wrong
        FROM inserted p GROUP BY p.entry_id, p.currency HAVING sum(p.amount) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'entry % is out of balance by % %', wrong.entry_id, wrong.difference, wrong.currency
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER posting_balanced AFTER INSERT ON posting
    REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION require_balanced_entries();

-- Settlement requests as they came, and what each was answered. An answer is final.
CREATE TABLE request (
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    sender text NOT NULL,
    message_id text NOT NULL,
    fingerprint text NOT NULL CHECK (fingerprint ~ '^[0-9a-f]{64}$'),
    document bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sender, message_id)
);
CREATE TABLE answer (
    sender text NOT NULL,
    message_id text NOT NULL,
    status text NOT NULL CHECK (status IN ('ACSC', 'RJCT')),
    entry_id bigint UNIQUE REFERENCES entry (id),
    document bytea NOT NULL,
    PRIMARY KEY (sender, message_id),
    FOREIGN KEY (sender, message_id) REFERENCES request (sender, message_id),
    CHECK ((status = 'ACSC') = (entry_id IS NOT NULL))
);

-- One camt.054 for each posting on a participant's account, in the order in which they became final.
CREATE TABLE notification (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    participant text NOT NULL,
    account_id bigint NOT NULL,
    version bigint NOT NULL,
    document bytea NOT NULL,
    UNIQUE (account_id, version),
    FOREIGN KEY (account_id, version) REFERENCES posting (account_id, version)
);
CREATE INDEX notification_of_participant ON notification (participant, id);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['entry', 'posting', 'request', 'answer', 'notification'] LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE OR TRUNCATE ON %I
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', name || '_append_only', name);
        EXECUTE format('GRANT SELECT ON %I TO concordat_app', name);
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION apply_posting() FROM PUBLIC;
GRANT SELECT ON account TO concordat_app;
GRANT INSERT (kind, participant, currency, overdraft_limit, opened_by) ON account TO concordat_app;
-- To lock a row takes the right to update some column of it; the limit is the one that may change.
GRANT UPDATE (overdraft_limit) ON account TO concordat_app;
GRANT INSERT (kind, cause, value_date, posted_at, posted_by) ON entry TO concordat_app;
GRANT INSERT (entry_id, account_id, currency, amount) ON posting TO concordat_app;
GRANT INSERT (sender, message_id, fingerprint, document) ON request TO concordat_app;
GRANT INSERT (sender, message_id, status, entry_id, document) ON answer TO concordat_app;
GRANT INSERT (participant, account_id, version, document) ON notification TO concordat_app;
"""


def upgrade() -> None:
    op.execute(SCHEMA)
