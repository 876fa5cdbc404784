"""The journal in partitions: events and postings by the number of the event, made ahead by the ledger itself.

The tables of before become the first partition as they stand: nothing is written anew but `event_key`, 52 bytes for
each event, and each table is read once so that PostgreSQL knows what its bounds are.
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

KEYS = """
-- What the journal is found by but the events' numbers, and what makes a subject's versions unique in all partitions.
CREATE TABLE event_key (
    subject uuid NOT NULL,
    version integer NOT NULL,
    sequence bigint NOT NULL
);
INSERT INTO event_key SELECT subject, version, sequence FROM event ORDER BY sequence;
ALTER TABLE event_key ADD PRIMARY KEY (subject, version);
CREATE TRIGGER event_key_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON event_key
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
GRANT SELECT ON event_key TO concordat_app;
CREATE FUNCTION keep_event_keys() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO event_key SELECT subject, version, sequence FROM inserted;
    RETURN NULL;
END $$;
"""
PARTITIONS = """
-- Partitions hold the events from `first` on and before `bound`, and their postings: event_<first>, posting_<first>.
CREATE TABLE journal_partition (
    first bigint PRIMARY KEY CHECK (first >= 0),
    bound bigint NOT NULL UNIQUE CHECK (bound > first),
    made_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER journal_partition_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON journal_partition
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
GRANT SELECT ON journal_partition TO concordat_app;

-- A foreign key would keep each partition where an account was opened from ever being detached.
ALTER TABLE account DROP CONSTRAINT account_opened_by_fkey;
CREATE FUNCTION require_opening_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM event WHERE sequence = NEW.opened_by) THEN
        RAISE EXCEPTION 'account % is opened by no event', NEW.id USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NULL;
END $$;

ALTER TABLE event DROP CONSTRAINT event_subject_version_key;
ALTER TABLE event RENAME TO event_0;
ALTER TABLE event_0 RENAME CONSTRAINT event_pkey TO event_0_pkey;
ALTER INDEX event_milestone RENAME TO event_0_milestone;
ALTER TABLE posting RENAME TO posting_0;
ALTER TABLE posting_0 RENAME CONSTRAINT posting_pkey TO posting_0_pkey;
REVOKE ALL ON event_0, posting_0 FROM concordat_app;

CREATE TABLE event (LIKE event_0 INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY RANGE (sequence);
ALTER TABLE event ADD PRIMARY KEY (sequence);
-- What a screening statement counts and fsck looks up is rare among payments.
CREATE INDEX event_milestone ON event (type, sequence)
    WHERE type IN ('payment.opinion', 'cycle.cut', 'cycle.attested', 'cycle.instructed', 'cycle.settled');
CREATE TABLE posting (LIKE posting_0 INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY RANGE (event_sequence);
CREATE TRIGGER event_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON event
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER event_keyed AFTER INSERT ON event
    REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION keep_event_keys();
CREATE TRIGGER posting_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON posting
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER posting_balanced AFTER INSERT ON posting
    REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION require_balanced_entries();
GRANT SELECT, INSERT ON event, posting TO concordat_app;
CREATE TRIGGER account_opened_by AFTER INSERT ON account
    FOR EACH ROW EXECUTE FUNCTION require_opening_event();

-- An event by its subject: the key says in which partition it is.
CREATE VIEW subject_event AS
    SELECT e.sequence, k.subject, k.version, e.type, e.schema_version, e.recorded_at, e.effective_at, e.data
    FROM event_key k JOIN event e ON e.sequence = k.sequence;
GRANT SELECT ON subject_event TO concordat_app;

-- Two tables such as partitions are, not attached yet: event_<suffix> and posting_<suffix>.
CREATE FUNCTION make_journal_tables(suffix text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    parent text;
    part text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['event', 'posting'] LOOP
        part := parent || '_' || suffix;
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part, parent);
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE OR TRUNCATE ON %I'
            ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', parent || '_append_only', part);
    END LOOP;
    EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (account_id, version)', part);
    EXECUTE format('CREATE TRIGGER posting_balanced AFTER INSERT ON %I REFERENCING NEW TABLE AS inserted'
        ' FOR EACH STATEMENT EXECUTE FUNCTION require_balanced_entries()', part);
END $$;
CREATE FUNCTION attach_journal_tables(first bigint, bound bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE event ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
        'event_' || first, first, bound);
    EXECUTE format('ALTER TABLE posting ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
        'posting_' || first, first, bound);
END $$;
-- Neither readers nor writers wait for it.
CREATE FUNCTION make_journal_partition(first bigint, bound bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM make_journal_tables(first::text);
    PERFORM attach_journal_tables(first, bound);
    INSERT INTO journal_partition (first, bound) VALUES (first, bound);
END $$;
REVOKE EXECUTE ON FUNCTION make_journal_tables, attach_journal_tables, make_journal_partition FROM PUBLIC;

-- Keeps two empty partitions ahead of the head, each for about as many events as a month has at the pace of the last
-- million, and returns how many it made. It asks no clock when a partition ends, so none can be missing for that.
CREATE FUNCTION extend_journal() RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
DECLARE
    ahead CONSTANT integer := 2;
    million CONSTANT bigint := 1048576;
    largest CONSTANT bigint := 64;
    made integer := 0;
    head bigint;
    pace interval;
    size bigint := million;
BEGIN
    SELECT sequence INTO head FROM ledger_head;
    IF (SELECT count(*) FROM journal_partition p WHERE p.first > head) >= ahead THEN
        RETURN 0;
    END IF;
    LOCK TABLE journal_partition IN SHARE ROW EXCLUSIVE MODE;
    SELECT clock_timestamp() - recorded_at INTO pace FROM event WHERE sequence = head - million + 1;
    WHILE pace IS NOT NULL AND size < largest * million AND pace * (size / million) < interval '30 days' LOOP
        size := size * 2;
    END LOOP;
    WHILE (SELECT count(*) FROM journal_partition p WHERE p.first > head) < ahead LOOP
        PERFORM make_journal_partition(l.bound, l.bound + size)
        FROM (SELECT max(p.bound) AS bound FROM journal_partition p) l;
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;
REVOKE EXECUTE ON FUNCTION extend_journal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION extend_journal TO concordat_app;

-- The first partition ends at the next whole million.
DO $$
DECLARE
    bound bigint := ((SELECT sequence FROM ledger_head) / 1048576 + 1) * 1048576;
BEGIN
    EXECUTE format('ALTER TABLE event ATTACH PARTITION event_0 FOR VALUES FROM (0) TO (%s)', bound);
    EXECUTE format('ALTER TABLE posting ATTACH PARTITION posting_0 FOR VALUES FROM (0) TO (%s)', bound);
    INSERT INTO journal_partition (first, bound) VALUES (0, bound);
END $$;
SELECT extend_journal();
"""


def upgrade() -> None:
    # The index is sorted in memory as far as that goes.
    op.execute("SET LOCAL maintenance_work_mem = '256MB'")
    op.execute(KEYS)
    op.execute(PARTITIONS)


def downgrade() -> None:
    raise RuntimeError("a ledger isn't taken back: restore a backup instead")
