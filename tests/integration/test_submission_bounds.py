"""What one bank may hand in to a cycle is bounded: further screening statements, proofs and statements are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from clearing_house import ALFA, BANKS, BETA, GAMA, House, NewHouse, anchor_of, events_of, refused, trade
from running_coordinator import ALPHA, COORDINATOR, on_demand, running_coordinator
from sqlalchemy import text

from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope, Signature
from compliance.cycle.states import State
from compliance.statements import CycleCut, LaneCut, ScreeningStatement
from compliance.verifier.verify import verify_bytes as verify
from gateway.coordinator.cycles.api import STATEMENTS_OBJECTS_MAX
from gateway.coordinator.cycles.judgement import SCREENINGS_MAX
from gateway.coordinator.cycles.tables import submissions
from gateway.federation.messages.attestation import SUBMITTED_MAX, StatementSubmission
from gateway.federation.storage.database import transaction
from tests.conftest import NewDatabase


def screening(house: House, cycle: str, bank: str, **changes: Any) -> Envelope:
    document = msgspec.json.decode(house.screening(cycle, bank).payload_bytes(), type=ScreeningStatement)
    return dsse.sign(msgspec.structs.replace(document, **changes), house.identity(bank).sign)


def only(envelope: Envelope) -> StatementSubmission:
    return StatementSubmission(statements=(), screening=envelope, complete=False)


async def stored(house: House, table: str) -> list[str]:
    """Return who has rows in a table, one entry a row."""
    async with transaction(house.engine) as conn:
        return list((await conn.execute(text(f"SELECT participant FROM {table}"))).scalars())


async def test_a_cycle_takes_few_screening_statements_of_a_bank_and_the_last_one_counts(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    submit = service.attestation.submit_statements
    for hits in range(SCREENINGS_MAX):
        await submit(ALFA, cycle, only(screening(house, cycle, ALFA, hits=hits)))
    await submit(ALFA, cycle, only(screening(house, cycle, ALFA, hits=3)))  # The same again is no new one.
    further = screening(house, cycle, ALFA, hits=SCREENINGS_MAX)
    assert await refused(submit(ALFA, cycle, only(further))) == "too_many_screenings"
    # What fits beside it is taken in, and what is refused is named.
    whole = house.submission(cycle, ALFA)
    answer = await submit(ALFA, cycle, msgspec.structs.replace(whole, screening=further))
    assert (len(answer.verdicts), [(part.pointer, part.reason) for part in answer.refused]) == (
        len(whole.statements),
        [("/screening", "too_many_screenings")],
    )
    assert ALFA in answer.refused[0].detail
    assert await stored(house, "screenings") == [ALFA] * SCREENINGS_MAX
    async with transaction(house.engine) as conn:
        last = (await submissions.screenings(conn, cycle))[ALFA]
    assert last.hits == SCREENINGS_MAX - 1
    # Nobody else is held up.
    repeated = screening(house, cycle, ALFA, hits=SCREENINGS_MAX - 1)
    await submit(ALFA, cycle, msgspec.structs.replace(whole, screening=repeated))
    await house.attest(service, cycle, [bank for bank in BANKS if bank != ALFA])
    assert await service.advance(cycle) is not State.ATTESTING
    verify(await service.export(cycle), anchor_of(house))


async def test_a_screening_statement_has_bounds(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    document = msgspec.json.decode(house.screening(cycle, ALFA).payload_bytes(), type=ScreeningStatement)
    listed = document.lists[0]
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"matcher": "x" * 256}, True),
        ({"matcher": "x" * 257}, False),
        ({"lists": (listed,) * 64}, True),
        ({"lists": (listed,) * 65}, False),
        ({"lists": (msgspec.structs.replace(listed, name="x" * 128),)}, True),
        ({"lists": (msgspec.structs.replace(listed, name="x" * 129),)}, False),
    ]
    for changes, fits in cases:
        call = service.attestation.submit_statements(ALFA, cycle, only(screening(house, cycle, ALFA, **changes)))
        if fits:
            await call
        else:
            assert await refused(call) == "schema_violation"


async def test_one_proof_of_each_kind_convicts_a_bank(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    house.pay(ALFA, GAMA, "EUR", 5)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle, [ALFA])
    for last in range(20, 30):
        lanes = (LaneCut(sender=BETA, currency="EUR", last_sequence=last),)
        cut = dsse.sign(CycleCut(cycle=cycle, receiver=ALFA, lanes=lanes), house.identity(ALFA).sign)
        assert await refused(service.attestation.submit_cut(ALFA, cycle, cut)) == "equivocation"
    for wrong_by in range(1, 4):
        for pair in ((ALFA, BETA), (ALFA, GAMA)):
            lie = house.sign(ALFA, house.statement(cycle, pair, "EUR", wrong_by=wrong_by))
            submission = StatementSubmission(statements=(lie,), complete=False)
            assert await refused(service.attestation.submit_statements(ALFA, cycle, submission)) == "equivocation"
    assert await stored(house, "equivocations") == [ALFA, ALFA]
    assert (await events_of(house, cycle)).count("cycle.equivocation") == 2
    # Another bank's is its own.
    await house.attest(service, cycle, [BETA])
    lie = house.sign(BETA, house.statement(cycle, (ALFA, BETA), "EUR", wrong_by=5))
    submission = StatementSubmission(statements=(lie,), complete=False)
    assert await refused(service.attestation.submit_statements(BETA, cycle, submission)) == "equivocation"
    assert await stored(house, "equivocations") == [ALFA, ALFA, BETA]


JUNK: dict[str, Any] = {
    "statements": Envelope("e30=", "x", (Signature("k", "AAAA"),)),
    "contested": {"receiver": BETA, "currency": "EUR", "cut_at": 2, "known_through": 1},
}


def crowd(member: str, count: int) -> bytes:
    return msgspec.json.encode({"statements": [], member: [JUNK[member]] * count})


@pytest.mark.parametrize("member", JUNK)
def test_a_submission_has_bounds(member: str) -> None:
    assert len(getattr(msgspec.json.decode(crowd(member, SUBMITTED_MAX), type=StatementSubmission), member))
    with pytest.raises(msgspec.ValidationError, match=f"length <= {SUBMITTED_MAX}"):
        msgspec.json.decode(crowd(member, SUBMITTED_MAX + 1), type=StatementSubmission)


async def test_a_crowd_is_refused_before_it_is_read(new_database: NewDatabase, tmp_path: Path) -> None:
    async with (
        running_coordinator(await new_database("gateway.coordinator"), tmp_path, rulebook=on_demand()) as coordinator,
        httpx.AsyncClient(trust_env=False, timeout=60) as http,
    ):
        (alpha,) = await coordinator.admit(ALPHA)
        async with coordinator.client(alpha) as client:
            token = await client.token(COORDINATOR)
        url = f"{coordinator.url}/cycles/2026-01-05-01/statements"
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        full = msgspec.json.encode(
            {
                "statements": [JUNK["statements"]] * SUBMITTED_MAX,
                "contested": [JUNK["contested"]] * SUBMITTED_MAX,
                "screening": JUNK["statements"],
            }
        )
        many_signatures = msgspec.structs.replace(JUNK["statements"], signatures=(Signature("k", "AAAA"),) * 65_000)
        for body, status, code, said in [
            (full, 404, "cycle_unknown", ""),
            (crowd("statements", SUBMITTED_MAX + 1), 400, "validation_failed", str(SUBMITTED_MAX)),
            (crowd("statements", 65_000), 400, "validation_failed", str(STATEMENTS_OBJECTS_MAX)),
            (crowd("contested", 65_000), 400, "validation_failed", str(STATEMENTS_OBJECTS_MAX)),
            (msgspec.json.encode({"statements": [many_signatures]}), 400, "validation_failed", "objects"),
        ]:
            answer = await http.post(url, content=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text[:500]
            assert said in answer.text
        # Who says nothing of himself isn't answered in such detail.
        assert (await http.post(url, content=crowd("statements", 65_000))).status_code == 401
