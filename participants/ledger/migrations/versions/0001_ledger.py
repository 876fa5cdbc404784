"""The ledger: events, postings, accounts, lanes.

What is history is append-only: the application's role may insert and select, and triggers refuse the rest to
everybody. What is a projection of history (balances, open payments, cursors) may change, and `concordat
participant fsck` recomputes it from the journal.
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

-- One row: the number of the last event. A writer moves it from the number it last saw, first thing in its
-- transaction, so writers exclude each other and one that has been overtaken finds out before it does harm.
CREATE TABLE ledger_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    sequence bigint NOT NULL CHECK (sequence >= 0)
);
INSERT INTO ledger_head (sequence) VALUES (0);

CREATE TABLE event (
    sequence bigint PRIMARY KEY CHECK (sequence > 0),
    subject uuid NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    type text NOT NULL,
    schema_version smallint NOT NULL CHECK (schema_version > 0),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    data json NOT NULL,
    UNIQUE (subject, version)
);
-- What a screening statement counts and fsck looks up is rare among payments.
CREATE INDEX event_milestone ON event (type, sequence)
    WHERE type IN ('payment.opinion', 'cycle.cut', 'cycle.attested', 'cycle.instructed', 'cycle.settled');

CREATE TABLE account (
    id bigint PRIMARY KEY CHECK (id > 0),
    kind text NOT NULL CHECK (kind IN ('customer', 'reserved', 'due_to', 'due_from', 'nostro', 'suspense')),
    code text NOT NULL,
    currency char(3) NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    name text NOT NULL,
    opened_by bigint NOT NULL REFERENCES event (sequence),
    UNIQUE (kind, code, currency)
);

-- Debits are positive, credits negative; `balance` is their sum.
CREATE TABLE posting (
    account_id bigint NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    event_sequence bigint NOT NULL,
    amount bigint NOT NULL CHECK (amount <> 0),
    previous_balance bigint NOT NULL,
    balance bigint NOT NULL,
    PRIMARY KEY (account_id, version),
    CHECK (balance = previous_balance + amount)
);
-- Every statement that inserts postings must leave each journal entry balanced in each currency. Entries never
-- change, so what holds for every statement holds for every commit; and one check serves thousands of postings.
CREATE FUNCTION require_balanced_entries() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong record;
BEGIN
    SELECT p.event_sequence, a.currency, sum(p.amount) AS difference INTO wrong
    FROM inserted p LEFT JOIN account a ON a.id = p.account_id
    GROUP BY p.event_sequence, a.currency
    HAVING sum(p.amount) <> 0 OR a.currency IS NULL
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'entry % is out of balance by % %', wrong.event_sequence, wrong.difference,
            coalesce(wrong.currency, '(unknown account)') USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER posting_balanced AFTER INSERT ON posting
    REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION require_balanced_entries();

-- Projection: where each account stands after its latest posting, and the bounds it must stay in.
CREATE TABLE account_balance (
    account_id bigint PRIMARY KEY REFERENCES account (id),
    balance bigint NOT NULL,
    version bigint NOT NULL,
    lowest bigint NOT NULL,
    highest bigint NOT NULL,
    CHECK (balance BETWEEN lowest AND highest)
) WITH (fillfactor = 50);

-- A lane carries the accepted payments of one sender to one receiver in one currency, numbered 1, 2, 3 …
CREATE TABLE lane (
    id integer PRIMARY KEY CHECK (id > 0),
    sender text NOT NULL,
    receiver text NOT NULL,
    currency char(3) NOT NULL,
    UNIQUE (sender, receiver, currency)
);
CREATE TABLE lane_entry (
    lane_id integer NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    payment_id uuid NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    leaf bytea NOT NULL CHECK (octet_length(leaf) = 32),
    PRIMARY KEY (lane_id, sequence)
);
-- The Merkle tree and the total after payment `sequence`; any cut is found from the nearest head below it.
CREATE TABLE lane_head (
    lane_id integer NOT NULL REFERENCES lane (id),
    sequence bigint NOT NULL CHECK (sequence > 0),
    total numeric(38, 0) NOT NULL CHECK (total > 0 AND total <> 'NaN'),
    peaks bytea NOT NULL,
    PRIMARY KEY (lane_id, sequence)
);
CREATE TABLE lane_settled (
    lane_id integer NOT NULL REFERENCES lane (id),
    cycle text NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    total numeric(38, 0) NOT NULL CHECK (total > 0 AND total <> 'NaN'),
    PRIMARY KEY (lane_id, sequence)
);

-- Projection: payments that wait for the other bank's answer (queued) or for people's decision (held).
-- `event_sequence` is the event since which it waits, so each counterparty's queue grows at its end.
CREATE TABLE payment_open (
    payment_id uuid NOT NULL,
    direction text NOT NULL CHECK (direction IN ('out', 'in')),
    counterparty text NOT NULL,
    state text NOT NULL CHECK (state IN ('queued', 'held')),
    event_sequence bigint NOT NULL,
    PRIMARY KEY (counterparty, event_sequence)
);
CREATE INDEX payment_open_held ON payment_open (event_sequence) WHERE state = 'held';

-- Projection: accepted payments that this bank contests and leaves out of its statements.
CREATE TABLE dispute (
    payment_id uuid PRIMARY KEY,
    lane_id integer NOT NULL REFERENCES lane (id),
    sequence bigint NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0)
);

-- What counterparties signed: payment batches received, acknowledgements received.
CREATE TABLE evidence (
    sha256 bytea PRIMARY KEY CHECK (octet_length(sha256) = 32),
    kind text NOT NULL,
    counterparty text NOT NULL,
    recorded_at timestamptz NOT NULL,
    envelope bytea NOT NULL
);

-- Orders refused before they became payments. The id stays free.
CREATE TABLE refusal (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    recorded_at timestamptz NOT NULL,
    payment_id uuid NOT NULL,
    reason text NOT NULL
);

CREATE TABLE screening_list (
    name text NOT NULL,
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    imported_at timestamptz NOT NULL,
    imported_by text NOT NULL,
    entries integer NOT NULL CHECK (entries > 0),
    files json NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (name, imported_at)
);

-- Projection: how far the coordinator's event feed has been followed.
CREATE TABLE feed_cursor (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    last_event bigint NOT NULL
);
INSERT INTO feed_cursor (last_event) VALUES (0);
"""

APPEND_ONLY = (
    "event", "account", "posting", "lane", "lane_entry", "lane_head", "lane_settled", "evidence", "refusal",
    "screening_list",
)  # fmt: skip
PROJECTIONS = ("account_balance", "payment_open", "dispute")


def upgrade() -> None:
    op.execute(SCHEMA)
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(f"GRANT SELECT, INSERT ON {table} TO concordat_app")
    for table in PROJECTIONS:
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO concordat_app")
    for table in ("ledger_head", "feed_cursor"):
        op.execute(f"GRANT SELECT, UPDATE ON {table} TO concordat_app")


def downgrade() -> None:
    raise RuntimeError("a ledger isn't taken back: restore a backup instead")
