"""What entitled the coordinator to each settlement: the signed order as it came, its cycle and the result's edition.

A cycle is settled once. Requests that release 0.1 took came unsigned: they have neither evidence nor edition.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCHEMA = """
ALTER TABLE request ADD COLUMN cycle text;
ALTER TABLE request ADD COLUMN edition integer;
ALTER TABLE request ADD COLUMN result text CHECK (result ~ '^[0-9a-f]{64}$');
ALTER TABLE request ADD COLUMN evidence bytea;
ALTER TABLE request ADD CONSTRAINT request_has_its_evidence CHECK (
    (cycle IS NULL) = (evidence IS NULL) AND (edition IS NULL) = (evidence IS NULL)
    AND (result IS NULL) = (evidence IS NULL)
);
CREATE INDEX request_of_cycle ON request (sender, cycle);
GRANT INSERT (cycle, edition, result, evidence) ON request TO concordat_app;

CREATE TABLE settled_cycle (
    sender text NOT NULL,
    cycle text NOT NULL,
    entry_id bigint NOT NULL UNIQUE REFERENCES entry (id),
    PRIMARY KEY (sender, cycle)
);
INSERT INTO settled_cycle (sender, cycle, entry_id)
    SELECT r.sender, found.cycle, a.entry_id FROM request r JOIN answer a USING (sender, message_id),
        LATERAL (SELECT substring(convert_from(r.document, 'UTF8') from 'SttlmCycl>([^<]*)<') AS cycle) AS found
    WHERE a.entry_id IS NOT NULL AND found.cycle IS NOT NULL ORDER BY a.entry_id
    ON CONFLICT DO NOTHING;

-- The versions of a coordinator's register of operators that orders came with: it never goes back.
CREATE TABLE operator_register (
    coordinator text NOT NULL,
    version bigint NOT NULL,
    sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (coordinator, version)
);
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['settled_cycle', 'operator_register'] LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE OR TRUNCATE ON %I
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', name || '_append_only', name);
        EXECUTE format('GRANT SELECT ON %I TO concordat_app', name);
    END LOOP;
END $$;
GRANT INSERT (sender, cycle, entry_id) ON settled_cycle TO concordat_app;
GRANT INSERT (coordinator, version, sha256) ON operator_register TO concordat_app;
"""


def upgrade() -> None:
    op.execute(SCHEMA)
