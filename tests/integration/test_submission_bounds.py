"""What one bank may hand in to a cycle is bounded: further screening statements, proofs and statements are refused."""

from __future__ import annotations

import asyncio
from itertools import islice, product
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
from compliance.cycle.positions import Position, of_statement
from compliance.cycle.states import State
from compliance.statements import CycleCut, LaneCut, ScreeningList, ScreeningStatement
from compliance.verifier.verify import verify_bytes as verify
from gateway.coordinator.cycles.judgement import REFUSED_MAX, REFUSED_PER_NEW_MAX, SCREENINGS_MAX, Submitted
from gateway.coordinator.cycles.tables import attestations
from gateway.federation.messages.attestation import SUBMITTED_MAX, AttestationSubmission, AttestationVerdict
from gateway.federation.problems import Refusal
from gateway.federation.storage.database import transaction
from gateway.federation.strict_json import VALUES_MAX
from tests.conftest import NewDatabase


def only(house: House, cycle: str, bank: str, **changes: Any) -> AttestationSubmission:
    return house.attestation(cycle, bank, screening=house.screening(cycle, bank, **changes))


async def stored(house: House, table: str) -> list[str]:
    """Return who has rows in a table, one entry a row."""
    async with transaction(house.engine) as conn:
        return list((await conn.execute(text(f"SELECT participant FROM {table}"))).scalars())


async def test_a_cycle_takes_few_screening_statements_of_a_bank_and_the_last_one_counts(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    submit = service.attestation.submit_attestation
    for hits in range(SCREENINGS_MAX):
        await submit(ALFA, cycle, only(house, cycle, ALFA, hits=hits))
    await submit(ALFA, cycle, only(house, cycle, ALFA, hits=3))  # The same again is no new one.
    assert await refused(submit(ALFA, cycle, only(house, cycle, ALFA, hits=SCREENINGS_MAX))) == "too_many_screenings"
    # What fits beside it is taken in, and what is refused is named.
    whole = house.submission(cycle, ALFA, hits=SCREENINGS_MAX)
    answer = await submit(ALFA, cycle, whole)
    assert (answer.stored, [(part.pointer, part.reason) for part in answer.refused]) == (
        len(whole.positions),
        [("/screening", "too_many_screenings")],
    )
    assert ALFA in answer.refused[0].detail
    assert await stored(house, "screenings") == [ALFA] * SCREENINGS_MAX
    async with transaction(house.engine) as conn:
        last = (await attestations.screenings(conn, cycle))[ALFA]
    assert last.hits == SCREENINGS_MAX - 1
    # Nobody else is held up.
    await submit(ALFA, cycle, house.submission(cycle, ALFA, hits=SCREENINGS_MAX - 1))
    await house.attest(service, cycle, [bank for bank in BANKS if bank != ALFA])
    assert await service.advance(cycle) is not State.ATTESTING
    verify(await service.export(cycle), anchor_of(house))


def test_a_screening_statement_has_bounds() -> None:
    listed = ScreeningList(name="OFAC SDN", sha256="6" * 64, entries=17_000, imported_at="2026-01-05T11:00:00Z")
    document = ScreeningStatement(
        cycle="2026-01-05-01", participant=ALFA, lists=(listed,), matcher="exact-1", screened=0, hits=0, released=0,
        rejected=0, pending=0,
    )  # fmt: skip
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"matcher": "x" * 256}, True),
        ({"matcher": "x" * 257}, False),
        ({"lists": (listed,) * 64}, True),
        ({"lists": (listed,) * 65}, False),
        ({"lists": (msgspec.structs.replace(listed, name="x" * 128),)}, True),
        ({"lists": (msgspec.structs.replace(listed, name="x" * 129),)}, False),
    ]
    signed = Envelope("e30=", "x", (Signature("k", "AAAA"),))
    for changes, fits in cases:
        screening = msgspec.structs.replace(document, **changes)
        body = msgspec.json.encode(AttestationSubmission(attestation=signed, screening=screening))
        if fits:
            assert msgspec.json.decode(body, type=AttestationSubmission).screening == screening
        else:
            with pytest.raises(msgspec.ValidationError, match="length <="):
                msgspec.json.decode(body, type=AttestationSubmission)


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
        assert await refused(service.cuts.submit(ALFA, cycle, cut)) == "equivocation"
    for wrong_by in range(1, 4):
        for pair in ((ALFA, BETA), (ALFA, GAMA)):
            lie = house.attestation(cycle, ALFA, house.statement(cycle, pair, "EUR", wrong_by=wrong_by))
            assert await refused(service.attestation.submit_attestation(ALFA, cycle, lie)) == "equivocation"
    assert await stored(house, "equivocations") == [ALFA, ALFA]
    assert (await events_of(house, cycle)).count("cycle.equivocation") == 2
    # Another bank's is its own.
    await house.attest(service, cycle, [BETA])
    lie = house.attestation(cycle, BETA, house.statement(cycle, (ALFA, BETA), "EUR", wrong_by=5))
    assert await refused(service.attestation.submit_attestation(BETA, cycle, lie)) == "equivocation"
    assert await stored(house, "equivocations") == [ALFA, ALFA, BETA]


def strangers(count: int) -> list[Position]:
    """Pairs of ALFA with banks that there aren't."""
    names = map("".join, product("ABCDEFGHIJKLMNOPQRSTUVWXYZ", repeat=3))
    row = Position("EUR", ALFA, "", 1, 1, 1, 1, "1", "0" * 64, 1, 0, 0, "0", "0" * 64)
    return [msgspec.structs.replace(row, high=f"Z{name}DEFF") for name in islice(names, count)]


async def test_a_further_attestation_is_kept_for_what_it_adds(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)

    async def attest(own: list[Position], refusable: int, hits: int = 0) -> AttestationVerdict:
        rows = sorted([*own, *strangers(refusable)], key=lambda p: p.key)
        said = house.attest_rows(cycle, ALFA, rows, screening=house.screening(cycle, ALFA, hits=hits))
        return await service.attestation.submit_attestation(ALFA, cycle, said)

    one, *others = [of_statement(house.statement(cycle, pair, currency)) for pair, currency in house.pairs(ALFA)]
    # A bank's first word is taken, however much of it is refused: others wait for what is good in it.
    first = await attest([one], SUBMITTED_MAX - 1)
    assert (first.stored, len(first.refused)) == (1, SUBMITTED_MAX - 1)
    for hits, new, beside in ((1, [], 0), (2, others[:1], REFUSED_PER_NEW_MAX)):
        kept = len(await stored(house, "attestations"))
        many = attest([one, *new], REFUSED_MAX + beside + 1, hits)
        assert await refused(many) == "too_few_new"
        assert len(await stored(house, "attestations")) == kept, "nothing of it is kept"
        few = await attest([one, *new], REFUSED_MAX + beside, hits)
        assert (few.stored, len(few.refused)) == (1 + len(new), REFUSED_MAX + beside)
        assert len(await stored(house, "attestations")) == kept + 1
    await house.attest(service, cycle)
    assert await service.advance(cycle) is not State.ATTESTING
    verify(await service.export(cycle), anchor_of(house))


async def test_what_was_read_in_time_and_is_known_is_answered_again(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    attestation, said = service.attestation, house.submission(cycle, ALFA)
    other = house.attestation(cycle, ALFA, screening=house.screening(cycle, ALFA, hits=1))
    await attestation.submit_attestation(ALFA, cycle, said)
    again, late = [await attestation._unread.add(cycle, (ALFA, each, None)) for each in (said, other)]
    assert isinstance(again, Submitted)
    assert isinstance(late, Submitted)
    await house.attest(service, cycle, [bank for bank in BANKS if bank != ALFA])
    assert await service.advance(cycle) is not State.ATTESTING
    verdicts = await asyncio.gather(
        *(attestation._read.add(cycle, each) for each in (again, late)), return_exceptions=True
    )
    assert isinstance(verdicts[0], AttestationVerdict)
    assert (verdicts[0].agreed, verdicts[0].refused) == (len(said.positions), ())
    assert isinstance(verdicts[1], Refusal)
    assert verdicts[1].reason == "deadline_passed"


SIGNED = Envelope("e30=", "x", (Signature("k", "AAAA"),))
ROW = ["EUR", ALFA, BETA, 1, 1, 2, 2, "15000", "0" * 64, 1, 1, 1, "4000", "0" * 64]
JUNK: dict[str, Any] = {
    "positions": ROW,
    "contested": {"receiver": BETA, "currency": "EUR", "cut_at": 2, "known_through": 1},
}


def crowd(member: str, count: int) -> bytes:
    return msgspec.json.encode({"attestation": SIGNED, member: [JUNK[member]] * count})


@pytest.mark.parametrize("member", JUNK)
def test_a_submission_has_bounds(member: str) -> None:
    assert len(getattr(msgspec.json.decode(crowd(member, SUBMITTED_MAX), type=AttestationSubmission), member))
    with pytest.raises(msgspec.ValidationError, match=f"length <= {SUBMITTED_MAX}"):
        msgspec.json.decode(crowd(member, SUBMITTED_MAX + 1), type=AttestationSubmission)


async def test_a_crowd_is_refused_before_it_is_read(new_database: NewDatabase, tmp_path: Path) -> None:
    async with (
        running_coordinator(await new_database("gateway.coordinator"), tmp_path, rulebook=on_demand()) as coordinator,
        httpx.AsyncClient(trust_env=False, timeout=60) as http,
    ):
        (alpha,) = await coordinator.admit(ALPHA)
        async with coordinator.client(alpha) as client:
            token = await client.token(COORDINATOR)
        url = f"{coordinator.url}/cycles/2026-01-05-01/attestations"
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        full = {
            "attestation": SIGNED,
            "positions": [JUNK["positions"]] * SUBMITTED_MAX,
            "contested": [JUNK["contested"]] * SUBMITTED_MAX,
        }
        many_signatures = msgspec.structs.replace(SIGNED, signatures=(Signature("k", "AAAA"),) * 65_000)
        for body, status, code, said in [
            (msgspec.json.encode(full), 404, "cycle_unknown", ""),
            (crowd("positions", SUBMITTED_MAX + 1), 400, "validation_failed", str(SUBMITTED_MAX)),
            (msgspec.json.encode({"positions": [[]] * 65_000}), 400, "validation_failed", str(SUBMITTED_MAX)),
            (crowd("positions", 20_000), 400, "bad_request", str(VALUES_MAX)),
            (crowd("contested", 30_000), 400, "bad_request", str(VALUES_MAX)),
            (msgspec.json.encode({"attestation": many_signatures}), 400, "bad_request", str(VALUES_MAX)),
        ]:
            answer = await http.post(url, content=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text[:500]
            assert said in answer.text
        # Who says nothing of himself isn't answered in such detail.
        assert (await http.post(url, content=crowd("positions", 10_000))).status_code == 401


async def test_statements_signed_one_by_one_are_refused_by_name(new_database: NewDatabase, tmp_path: Path) -> None:
    async with (
        running_coordinator(await new_database("gateway.coordinator"), tmp_path, rulebook=on_demand()) as coordinator,
        httpx.AsyncClient(trust_env=False, timeout=60) as http,
    ):
        (alpha,) = await coordinator.admit(ALPHA)
        async with coordinator.client(alpha) as client:
            headers = {"Authorization": f"Bearer {await client.token(COORDINATOR)}"}
        before = {"statements": [msgspec.to_builtins(SIGNED)], "complete": True}
        answer = await http.post(f"{coordinator.url}/cycles/2026-01-05-01/statements", json=before, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (410, "release_too_old")
        assert "/attestations" in answer.json()["detail"]
