"""The coordinator stores no customer and no single payment: everything that its database can hold is listed here.

A new column fails this test until somebody has thought about what it may hold and written it down.
"""

from collections.abc import AsyncIterator

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.statements import PAYLOAD_TYPES, Document
from gateway.federation.messages.payments import PaymentTerms
from gateway.federation.storage.database import create_engine
from tests.conftest import NewDatabase

ALLOWED = {
    "attestations": (
        "id bigint, cycle text, participant text, sha256 text, envelope json, leaves bytea, refused integer[], "
        "screening text, contested json, received_at timestamp with time zone"
    ),
    "breaks": (
        "cycle text, currency text, pair_low text, pair_high text, revision integer, kind text, missing_from "
        "text, noticed_at timestamp with time zone, resolved_at timestamp with time zone"
    ),
    "bilateral_limits": "bic text, counterparty text, currency text, limit_minor numeric(38,0)",
    "caps": "bic text, currency text, cap_minor numeric(38,0)",
    "clients": "client_id text, role text, kid text, x text, disabled boolean",
    "closed_days": "currency text, day date, reason text",
    "cuts": "cycle text, receiver text, sha256 text, envelope json, received_at timestamp with time zone",
    "cycle_pairs": "cycle text, currency text, pair_low text, pair_high text, sha256 text, carried text",
    "cycle_participants": (
        "cycle text, participant text, cut_at timestamp with time zone, attested_at timestamp with time zone"
    ),
    "cycles": (
        "id text, value_date date, number integer, state text, currencies text[], rulebook text, "
        "trust_list_version bigint, opened_at timestamp with time zone, cut_off_at timestamp with time zone, "
        "deadline_at timestamp with time zone, due_at timestamp with time zone, result text, version integer, "
        "failures integer, failure_reason text, failure_detail text, failing_since timestamp with time zone, "
        "closed json"
    ),
    "equivocations": (
        "id bigint, cycle text, participant text, first_sha256 text, second_sha256 text, first json, second "
        "json, noticed_at timestamp with time zone"
    ),
    "events": (
        "id bigint, type text, at timestamp with time zone, cycle text, data json, audience text[], prev_hash "
        "text, hash text"
    ),
    "finalities": "cycle text, envelope json",
    "instructions": (
        "id text, cycle text, participant text, currency text, net_minor numeric(38,0), sha256 text, envelope "
        "json, acknowledged_at timestamp with time zone, receipt json, edition integer"
    ),
    "invitations": "bic text, code_sha256 text, expires_at timestamp with time zone",
    "lane_settlements": "sender text, receiver text, currency text, settled_sequence bigint, cycle text",
    "member_keys": (
        "kid text, bic text, x text, use text, status text, since timestamp with time zone, not_before timestamp with "
        "time zone, not_after timestamp with time zone, revoked_at timestamp with time zone"
    ),
    "members": (
        "bic text, name text, kind text, status text, status_since timestamp with time zone, url text, "
        "last_seen_at timestamp with time zone"
    ),
    "operator_registers": "version bigint, envelope json, published_at timestamp with time zone",
    "positions": (
        "cycle text, currency text, pair_low text, pair_high text, revision integer, forth_first bigint, forth_last "
        "bigint, forth_count bigint, forth_minor numeric(38,0), forth_root text, back_first bigint, back_last bigint, "
        "back_count bigint, back_minor numeric(38,0), back_root text, sha256 text, attestation bigint"
    ),
    "prefunding": "bic text, currency text, prefunded_minor numeric(38,0), reserved_minor numeric(38,0)",
    "proposals": (
        "id uuid, cycle text, action text, reason text, subject_sha256 text, made_by text, made_at timestamp "
        "with time zone, expires_at timestamp with time zone, decision text, decided_by text, decided_at "
        "timestamp with time zone, decision_reason text, participants text[], act json, proposed json, "
        "answered json, proposed_sha256 text, withdrawn_at timestamp with time zone"
    ),
    "results": (
        "cycle text, sha256 text, envelope json, caps json, checks json, totals json, prefunding json, "
        "bilateral json, certificates json, edition integer, currencies json"
    ),
    "result_parts": "result text, number integer, part text",
    "rulebooks": "sha256 text, document json, adopted_at timestamp with time zone",
    "screenings": (
        "id bigint, cycle text, participant text, sha256 text, envelope json, received_at timestamp with time zone, "
        "document json, attestation bigint"
    ),
    "settlement_accounts": "bic text, agent text, account text",
    "settlement_attempts": (
        "cycle text, attempt integer, agent text, message_id text, request text, made_at timestamp with time "
        "zone, outcome text, reference text, settled_at timestamp with time zone, detail text, answered_at "
        "timestamp with time zone, edition integer, signed_request json, signed_answer json"
    ),
    "statements": (
        "cycle text, currency text, pair_low text, pair_high text, revision integer, participant text, sha256 "
        "text, envelope json, forth_minor numeric(38,0), back_minor numeric(38,0), received_at timestamp with "
        "time zone"
    ),
    "trust_lists": "version bigint, envelope json, published_at timestamp with time zone, dated json",
    "used_assertions": "client_id text, jti text, expires_at timestamp with time zone",
}

# Words that would name what stays at the banks. `account` is allowed once: a bank's own account at the agent.
BANKS_ONLY = ("payment", "debtor", "creditor", "customer", "iban", "remittance", "uetr", "beneficiary")


@pytest.fixture
async def conn(new_database: NewDatabase) -> AsyncIterator[AsyncConnection]:
    engine = create_engine(await new_database("gateway.coordinator"), role=None)
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


async def columns(conn: AsyncConnection) -> dict[str, str]:
    rows = await conn.execute(
        text(
            "SELECT relname,"
            " string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) AS all"
            " FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')"
            " AND attnum > 0 AND NOT attisdropped AND relname <> 'alembic_version' GROUP BY relname"
        )
    )
    return {row.relname: row.all for row in rows}


async def test_every_column_is_known(conn: AsyncConnection) -> None:
    assert await columns(conn) == ALLOWED


async def test_no_column_is_named_after_what_stays_at_the_banks(conn: AsyncConnection) -> None:
    found = await columns(conn)
    named = {f"{table}.{column.split()[0]}" for table, all_ in found.items() for column in all_.split(", ")}
    assert {name for name in named if any(word in name for word in BANKS_ONLY)} == set()
    assert {name for name in named if name.endswith(("account", "name"))} == {
        "settlement_accounts.account",
        "members.name",
    }


async def test_nothing_takes_files_and_only_digests_are_bytes(conn: AsyncConnection) -> None:
    found = await columns(conn)
    assert [table for table, all_ in found.items() if "bytea" in all_ or "oid" in all_.split()] == ["attestations"]
    bytes_of = [column for column in found["attestations"].split(", ") if "bytea" in column]
    assert bytes_of == ["leaves bytea"]  # whole digests of 32 bytes each, which the table checks


@pytest.mark.parametrize("document", PAYLOAD_TYPES)
def test_no_document_that_it_keeps_has_room_for_a_payment(document: type[Document]) -> None:
    private = set(PaymentTerms.__struct_fields__) - {"id", "currency", "amount_minor", "expires_at"}

    def fields(schema: object) -> set[str]:
        if isinstance(schema, dict):
            own = set(schema.get("properties", {}))
            return own.union(*(fields(value) for value in schema.values()))
        if isinstance(schema, list):
            return set().union(*(fields(value) for value in schema))
        return set()

    _, components = msgspec.json.schema_components([document])
    named = fields(components)
    assert not named & private
    assert not {name for name in named if any(word in name for word in BANKS_ONLY)}
    # Closed schemas: what isn't listed can't be slipped in.
    assert all(part.get("additionalProperties") is False for part in components.values() if "properties" in part)
