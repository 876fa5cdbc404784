"""Limits beside net debit caps: prefunding and bilateral limits; a result keeps all those it was made with.

It keeps too what proves how much at most could have settled within them.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

TABLES = """
CREATE TABLE prefunding (
    bic text NOT NULL REFERENCES members,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    prefunded_minor numeric(38, 0) NOT NULL CHECK (prefunded_minor >= 0 AND prefunded_minor <> 'NaN'),
    reserved_minor numeric(38, 0) NOT NULL CHECK (reserved_minor >= 0 AND reserved_minor <> 'NaN'),
    PRIMARY KEY (bic, currency)
);

CREATE TABLE bilateral_limits (
    bic text NOT NULL REFERENCES members,
    counterparty text NOT NULL REFERENCES members CHECK (counterparty <> bic),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    limit_minor numeric(38, 0) NOT NULL CHECK (limit_minor >= 0 AND limit_minor <> 'NaN'),
    PRIMARY KEY (bic, counterparty, currency)
);
"""

# Results made before there were any other limits had none: what wasn't there needn't be written into signed history.
RESULTS = """
ALTER TABLE results ADD COLUMN prefunding json NOT NULL DEFAULT '[]';
ALTER TABLE results ADD COLUMN bilateral json NOT NULL DEFAULT '[]';
ALTER TABLE results ADD COLUMN certificates json NOT NULL DEFAULT '[]';
"""

GRANTS = """
GRANT SELECT, INSERT, UPDATE ON prefunding TO concordat_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON bilateral_limits TO concordat_app;
"""


def upgrade() -> None:
    for script in (TABLES, RESULTS, GRANTS):
        op.execute(script)
