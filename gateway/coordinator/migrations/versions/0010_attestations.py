"""One signature of a bank over all that it states: attestations, and each position once, whoever signs it.

What banks signed statement by statement before stays where it is, for the exports of those cycles. A cycle that takes
in cuts or statements is half in the old form: it ends under the release that began it.
"""

from alembic import op
from sqlalchemy import text

from gateway.federation.storage.postgres import PostgresError

revision = "0010"
down_revision = "0009"

UNFINISHED = "SELECT id FROM cycles WHERE state IN ('cut_off', 'attesting')"

# `leaves` are the SHA-256 digests of all statements that the signature covers, one after the other. `refused` are the
# indexes of those that weren't taken in, `screening` is the digest of the screening statement that counts from here on,
# `contested` are the lanes whose digest the attestation names.
ATTESTATIONS = """
CREATE TABLE attestations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cycle text NOT NULL,
    participant text NOT NULL,
    sha256 text NOT NULL,
    envelope json NOT NULL,
    leaves bytea NOT NULL CHECK (octet_length(leaves) % 32 = 0),
    refused integer[] NOT NULL DEFAULT '{}',
    screening text,
    contested json,
    received_at timestamptz NOT NULL,
    UNIQUE (cycle, participant, sha256),
    FOREIGN KEY (cycle, participant) REFERENCES cycle_participants
);
-- Digests don't become smaller.
ALTER TABLE attestations ALTER COLUMN leaves SET STORAGE EXTERNAL;
CREATE INDEX attestations_cycle ON attestations (cycle, id);
"""

# `attestation` is the first that brought it, in the same transaction. What one bank of a pair states isn't asked of the
# database for each row: the cycle's row is locked, and memory knows what is here.
POSITIONS = """
CREATE TABLE positions (
    cycle text NOT NULL,
    currency text NOT NULL,
    pair_low text NOT NULL,
    pair_high text NOT NULL,
    revision integer NOT NULL CHECK (revision BETWEEN 1 AND 99),
    forth_first bigint NOT NULL,
    forth_last bigint NOT NULL,
    forth_count bigint NOT NULL,
    forth_minor numeric(38, 0) NOT NULL CHECK (forth_minor >= 0 AND forth_minor <> 'NaN'),
    forth_root text NOT NULL,
    back_first bigint NOT NULL,
    back_last bigint NOT NULL,
    back_count bigint NOT NULL,
    back_minor numeric(38, 0) NOT NULL CHECK (back_minor >= 0 AND back_minor <> 'NaN'),
    back_root text NOT NULL,
    sha256 text COLLATE "C" NOT NULL,
    attestation bigint NOT NULL,
    PRIMARY KEY (cycle, sha256),
    CHECK (pair_low < pair_high)
);
"""

SCREENINGS = """
ALTER TABLE screenings ALTER COLUMN envelope DROP NOT NULL;
ALTER TABLE screenings ADD COLUMN document json;
ALTER TABLE screenings ADD COLUMN attestation bigint REFERENCES attestations;
ALTER TABLE screenings ADD CONSTRAINT screenings_signed_or_attested CHECK (
    (envelope IS NULL) = (document IS NOT NULL) AND (document IS NULL) = (attestation IS NULL)
);
"""

# The signed cuts say the same.
CUTS = "DROP TABLE cut_lanes;"

APPEND_ONLY = "".join(
    f"""
CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""
    for table in ("attestations", "positions")
)

GRANTS = """
GRANT SELECT, INSERT ON attestations, positions TO concordat_app;
REVOKE INSERT ON statements FROM concordat_app;
"""


def upgrade() -> None:
    unfinished = op.get_bind().execute(text(UNFINISHED)).scalars().all()
    if unfinished:
        raise PostgresError(
            f"cycle {', '.join(unfinished)} is taking in what banks sign in the form of before: start the release that"
            " it began under, let it go on from there, and upgrade between two cycles"
        )
    for script in (ATTESTATIONS, POSITIONS, SCREENINGS, CUTS, APPEND_ONLY, GRANTS):
        op.execute(script)
