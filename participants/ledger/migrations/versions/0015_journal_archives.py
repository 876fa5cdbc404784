"""What of the journal was taken out into files: which stretches, what they held, and the balances at their end."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

SCHEMA = """
-- A stretch that was detached. `manifest` is signed by the bank; `kept` of its events stay in the journal, since
-- others that stay build on them. One that was attached again stays noted.
CREATE TABLE journal_archive (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    first bigint NOT NULL,
    bound bigint NOT NULL CHECK (bound > first),
    manifest json NOT NULL,
    manifest_sha256 bytea NOT NULL CHECK (octet_length(manifest_sha256) = 32),
    kept bigint NOT NULL CHECK (kept >= 0),
    ends_at timestamptz NOT NULL,
    detached_at timestamptz NOT NULL DEFAULT now(),
    attached_at timestamptz
);
CREATE UNIQUE INDEX journal_archive_detached ON journal_archive (first) WHERE attached_at IS NULL;
CREATE TRIGGER journal_archive_append_only BEFORE DELETE OR TRUNCATE ON journal_archive
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- Where each account stood before event `bound`: what was posted since is added to it.
CREATE TABLE journal_closing (
    bound bigint NOT NULL,
    account_id bigint NOT NULL REFERENCES account (id),
    version bigint NOT NULL CHECK (version > 0),
    balance bigint NOT NULL,
    PRIMARY KEY (bound, account_id)
);
-- The journal is whole from this event on.
CREATE VIEW journal_floor AS
    SELECT coalesce(max(bound), 0) AS sequence, max(ends_at) AS ends_at FROM journal_archive WHERE attached_at IS NULL;
CREATE VIEW carried_balance AS
    SELECT c.account_id, c.version, c.balance FROM journal_closing c JOIN journal_floor f ON f.sequence = c.bound;
GRANT SELECT ON journal_archive, journal_closing, journal_floor, carried_balance TO concordat_app;
"""


def upgrade() -> None:
    op.execute(SCHEMA)


def downgrade() -> None:
    raise RuntimeError("a ledger isn't taken back: restore a backup instead")
