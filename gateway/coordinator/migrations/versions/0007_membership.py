"""Invitations, from when to when a key counts, and the trust list that says so beside the one that doesn't.

An earlier list has no dated form: the first start after the upgrade publishes one.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

KEYS = """
ALTER TABLE member_keys ADD COLUMN not_before timestamptz;
ALTER TABLE member_keys ADD COLUMN not_after timestamptz;
ALTER TABLE member_keys ADD COLUMN revoked_at timestamptz;
UPDATE member_keys SET not_before = since WHERE status = 'active';
UPDATE member_keys SET not_after = since WHERE status = 'retired';
UPDATE member_keys SET revoked_at = since WHERE status = 'revoked';
ALTER TABLE member_keys ADD CONSTRAINT member_keys_end_as_they_say CHECK (
    (status <> 'active' OR (not_after IS NULL AND revoked_at IS NULL))
    AND (status <> 'retired' OR (not_after IS NOT NULL AND revoked_at IS NULL))
    AND (status <> 'revoked' OR revoked_at IS NOT NULL)
);
"""

TRUST_LISTS = """
ALTER TABLE trust_lists ADD COLUMN dated json;
"""

INVITATIONS = """
CREATE TABLE invitations (
    bic text PRIMARY KEY CHECK (bic ~ '^[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}([A-Z0-9]{3})?$'),
    code_sha256 text NOT NULL CHECK (code_sha256 ~ '^[0-9a-f]{64}$'),
    expires_at timestamptz NOT NULL
);
"""

# Who was never admitted leaves nothing behind.
GRANTS = """
GRANT SELECT, INSERT, UPDATE, DELETE ON invitations TO concordat_app;
GRANT DELETE ON members, member_keys, settlement_accounts, caps, prefunding TO concordat_app;
"""


def upgrade() -> None:
    for script in (KEYS, TRUST_LISTS, INVITATIONS, GRANTS):
        op.execute(script)
