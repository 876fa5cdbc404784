"""Cycles: their state, what the banks signed, results, instructions, settlement attempts and finality.

A cycle's row is a projection of its events. What was signed is kept in `json` columns, byte for byte.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

# The partial indexes say: one open cycle at most, and one between its cut-off and its end.
CYCLES = """
CREATE TABLE cycles (
    id text PRIMARY KEY CHECK (id ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{2,4}$'),
    value_date date NOT NULL,
    number integer NOT NULL CHECK (number BETWEEN 1 AND 9999),
    state text NOT NULL CHECK (state IN ('open', 'cut_off', 'attesting', 'matched', 'netted', 'held', 'approved',
        'instructed', 'deferred', 'settled', 'final', 'abandoned')),
    currencies text[] NOT NULL,
    rulebook text NOT NULL REFERENCES rulebooks,
    trust_list_version bigint NOT NULL,
    opened_at timestamptz NOT NULL,
    cut_off_at timestamptz,
    deadline_at timestamptz,
    due_at timestamptz,
    result text CHECK (result ~ '^[0-9a-f]{64}$'),
    UNIQUE (value_date, number)
);
CREATE UNIQUE INDEX cycles_one_open ON cycles ((true)) WHERE state = 'open';
CREATE UNIQUE INDEX cycles_one_in_progress ON cycles ((true)) WHERE state NOT IN ('open', 'final', 'abandoned');

CREATE TABLE cycle_participants (
    cycle text NOT NULL REFERENCES cycles,
    participant text NOT NULL REFERENCES members,
    cut_at timestamptz,
    attested_at timestamptz,
    PRIMARY KEY (cycle, participant)
);
"""

ATTESTATION = """
CREATE TABLE cuts (
    cycle text NOT NULL,
    receiver text NOT NULL,
    sha256 text NOT NULL,
    envelope json NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (cycle, receiver),
    FOREIGN KEY (cycle, receiver) REFERENCES cycle_participants
);

CREATE TABLE cut_lanes (
    cycle text NOT NULL,
    receiver text NOT NULL,
    sender text NOT NULL,
    currency text NOT NULL,
    last_sequence bigint NOT NULL CHECK (last_sequence >= 0),
    PRIMARY KEY (cycle, receiver, sender, currency),
    FOREIGN KEY (cycle, receiver) REFERENCES cuts
);
CREATE INDEX cut_lanes_sender ON cut_lanes (cycle, sender);

CREATE TABLE statements (
    cycle text NOT NULL,
    currency text NOT NULL,
    pair_low text NOT NULL,
    pair_high text NOT NULL,
    revision integer NOT NULL CHECK (revision BETWEEN 1 AND 99),
    participant text NOT NULL CHECK (participant IN (pair_low, pair_high)),
    sha256 text NOT NULL,
    envelope json NOT NULL,
    forth_minor numeric(38, 0) NOT NULL CHECK (forth_minor >= 0 AND forth_minor <> 'NaN'),
    back_minor numeric(38, 0) NOT NULL CHECK (back_minor >= 0 AND back_minor <> 'NaN'),
    received_at timestamptz NOT NULL,
    PRIMARY KEY (cycle, currency, pair_low, pair_high, revision, participant),
    FOREIGN KEY (cycle, participant) REFERENCES cycle_participants,
    CHECK (pair_low < pair_high)
);
CREATE INDEX statements_low ON statements (cycle, pair_low);
CREATE INDEX statements_high ON statements (cycle, pair_high);

CREATE TABLE screenings (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cycle text NOT NULL,
    participant text NOT NULL,
    sha256 text NOT NULL,
    envelope json NOT NULL,
    received_at timestamptz NOT NULL,
    UNIQUE (cycle, participant, sha256),
    FOREIGN KEY (cycle, participant) REFERENCES cycle_participants
);

CREATE TABLE breaks (
    cycle text NOT NULL REFERENCES cycles,
    currency text NOT NULL,
    pair_low text NOT NULL,
    pair_high text NOT NULL,
    revision integer NOT NULL,
    kind text NOT NULL CHECK (kind IN ('different', 'missing')),
    missing_from text,
    noticed_at timestamptz NOT NULL,
    resolved_at timestamptz,
    PRIMARY KEY (cycle, currency, pair_low, pair_high, revision, kind),
    CHECK ((kind = 'missing') = (missing_from IS NOT NULL))
);

CREATE TABLE equivocations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cycle text NOT NULL REFERENCES cycles,
    participant text NOT NULL,
    first_sha256 text NOT NULL,
    second_sha256 text NOT NULL,
    first json NOT NULL,
    second json NOT NULL,
    noticed_at timestamptz NOT NULL,
    UNIQUE (cycle, participant, first_sha256, second_sha256)
);

CREATE TABLE cycle_pairs (
    cycle text NOT NULL REFERENCES cycles,
    currency text NOT NULL,
    pair_low text NOT NULL,
    pair_high text NOT NULL,
    sha256 text,
    carried text,
    PRIMARY KEY (cycle, currency, pair_low, pair_high),
    CHECK (sha256 IS NOT NULL OR carried IS NOT NULL)
);
CREATE INDEX cycle_pairs_pair ON cycle_pairs (currency, pair_low, pair_high) WHERE carried IS NULL;
"""

SETTLEMENT = """
CREATE TABLE results (
    cycle text PRIMARY KEY REFERENCES cycles,
    sha256 text NOT NULL UNIQUE,
    envelope json NOT NULL,
    caps json NOT NULL,
    checks json NOT NULL,
    totals json NOT NULL
);

CREATE TABLE proposals (
    id uuid PRIMARY KEY,
    cycle text NOT NULL REFERENCES cycles,
    action text NOT NULL CHECK (action IN ('approve', 'hold', 'release', 'abandon')),
    reason text NOT NULL,
    subject_sha256 text,
    made_by text NOT NULL,
    made_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    decision text CHECK (decision IN ('confirm', 'reject')),
    decided_by text,
    decided_at timestamptz,
    decision_reason text,
    CONSTRAINT maker_is_never_checker CHECK (decided_by <> made_by),
    CHECK ((decision IS NULL) = (decided_by IS NULL) AND (decision IS NULL) = (decided_at IS NULL))
);
CREATE INDEX proposals_cycle ON proposals (cycle, made_at);

CREATE TABLE instructions (
    id text PRIMARY KEY,
    cycle text NOT NULL REFERENCES cycles,
    participant text NOT NULL,
    currency text NOT NULL,
    net_minor numeric(38, 0) NOT NULL CHECK (net_minor <> 'NaN'),
    sha256 text NOT NULL,
    envelope json NOT NULL,
    acknowledged_at timestamptz,
    receipt json,
    UNIQUE (cycle, participant, currency)
);
CREATE INDEX instructions_pending ON instructions (participant, id) WHERE acknowledged_at IS NULL;

CREATE TABLE settlement_attempts (
    cycle text NOT NULL REFERENCES cycles,
    attempt integer NOT NULL CHECK (attempt >= 1),
    agent text NOT NULL,
    message_id text NOT NULL UNIQUE,
    request text,
    made_at timestamptz NOT NULL,
    outcome text CHECK (outcome IN ('settled', 'shortfall', 'rejected')),
    reference text,
    settled_at timestamptz,
    detail text,
    answered_at timestamptz,
    PRIMARY KEY (cycle, attempt)
);

CREATE TABLE finalities (
    cycle text PRIMARY KEY REFERENCES cycles,
    envelope json NOT NULL
);

CREATE TABLE lane_settlements (
    sender text NOT NULL,
    receiver text NOT NULL,
    currency text NOT NULL,
    settled_sequence bigint NOT NULL CHECK (settled_sequence >= 0),
    cycle text NOT NULL REFERENCES cycles,
    PRIMARY KEY (sender, receiver, currency)
);
CREATE INDEX lane_settlements_receiver ON lane_settlements (receiver);
"""

# What was signed can't be changed or removed, by the owner neither.
APPEND_ONLY = "".join(
    f"""
CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""
    for table in ("cuts", "cut_lanes", "statements", "screenings", "equivocations", "results", "finalities")
)

GRANTS = """
GRANT SELECT, INSERT ON cuts, cut_lanes, statements, screenings, equivocations, results, finalities TO concordat_app;
GRANT SELECT, INSERT, UPDATE ON cycles, cycle_participants, lane_settlements TO concordat_app;
GRANT SELECT, INSERT ON breaks, cycle_pairs, proposals, instructions, settlement_attempts TO concordat_app;
GRANT UPDATE (resolved_at) ON breaks TO concordat_app;
GRANT UPDATE (carried) ON cycle_pairs TO concordat_app;
GRANT UPDATE (decision, decided_by, decided_at, decision_reason) ON proposals TO concordat_app;
GRANT UPDATE (acknowledged_at, receipt) ON instructions TO concordat_app;
GRANT UPDATE (outcome, reference, settled_at, detail, answered_at) ON settlement_attempts TO concordat_app;
"""


def upgrade() -> None:
    for script in (CYCLES, ATTESTATION, SETTLEMENT, APPEND_ONLY, GRANTS):
        op.execute(script)
