"""A default: a cycle's result may be netted again. What was signed before stays, as an earlier edition."""

from alembic import op

revision = "0004"
down_revision = "0003"

RESULTS = """
ALTER TABLE results ADD COLUMN edition integer NOT NULL DEFAULT 1 CHECK (edition BETWEEN 1 AND 99);
ALTER TABLE results DROP CONSTRAINT results_pkey;
ALTER TABLE results ADD PRIMARY KEY (cycle, edition);
"""

INSTRUCTIONS = """
ALTER TABLE instructions ADD COLUMN edition integer NOT NULL DEFAULT 1;
ALTER TABLE instructions DROP CONSTRAINT instructions_cycle_participant_currency_key;
ALTER TABLE instructions ADD UNIQUE (cycle, edition, participant, currency);
"""

ATTEMPTS = """
ALTER TABLE settlement_attempts ADD COLUMN edition integer NOT NULL DEFAULT 1;
"""

PROPOSALS = """
ALTER TABLE proposals ADD COLUMN participants text[] NOT NULL DEFAULT '{}';
ALTER TABLE proposals DROP CONSTRAINT proposals_action_check;
ALTER TABLE proposals ADD CONSTRAINT proposals_action_check
    CHECK (action IN ('approve', 'hold', 'release', 'abandon', 'unwind'));
ALTER TABLE proposals ADD CONSTRAINT unwind_names_participants
    CHECK ((action = 'unwind') = (cardinality(participants) > 0));
"""


def upgrade() -> None:
    for script in (RESULTS, INSTRUCTIONS, ATTEMPTS, PROPOSALS):
        op.execute(script)
