"""Fifty banks at once, over real HTTP: each is told everything once and in order, and all they say is kept once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from clearing_house import rulebook
from running_coordinator import AGENT, COORDINATOR, Coordinator, running_coordinator
from sqlalchemy import text

from gateway.coordinator.log import events
from gateway.federation.identity.tokens import issue_access_token
from gateway.federation.messages.attestation import AttestationVerdict
from gateway.federation.messages.cycles import Cycle
from gateway.federation.messages.events import Event, Events
from gateway.federation.storage.database import transaction
from tests.conftest import NewDatabase
from tests.simulated_banks import Banks, Bodies, Connection

COUNT = 50
PAIRS = COUNT * (COUNT - 1) // 2


@pytest.fixture
async def coordinator(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Coordinator]:
    url = await new_database("gateway.coordinator")
    async with running_coordinator(url, tmp_path, rulebook=rulebook(currencies=("EUR",))) as running:
        await running.admit_agent()
        await running.client_key("alice", "operator")
        yield running


@pytest.fixture
async def banks(coordinator: Coordinator) -> AsyncIterator[Banks]:
    made = Banks.of(
        COUNT,
        currencies=["EUR"],
        url=coordinator.url,
        coordinator=COORDINATOR,
        token_key=coordinator.base.identity.token,
        coordinator_key=coordinator.base.identity.sign.verifying_key,
    )
    for bank in made.banks:
        await coordinator.registry.admit(
            bank.application(AGENT), kind="participant", caps_minor={}, by="test", reason="set up"
        )
    yield made
    made.close()


def an_operator(coordinator: Coordinator) -> Connection:
    def token() -> str:
        return issue_access_token(
            key=coordinator.base.identity.token,
            issuer=coordinator.url,
            subject="alice",
            audience=COORDINATOR,
            client_id="alice",
            role="operator",
            signed_in_by=coordinator.keys["alice"].kid,
        )

    return Connection(coordinator.url, token)


async def follow(connection: Connection, after: int, last: str) -> list[Event]:
    """Follow the feed by long poll from a cursor to the first event of a type."""
    found: list[Event] = []
    while not found or found[-1].type != last:
        page = await connection.ask(Events, "GET", f"/events?after={after}&wait_s=25&limit=3")
        found += page.events
        after = page.next
    return found


async def test_fifty_banks_clear_a_cycle_at_once(coordinator: Coordinator, banks: Banks) -> None:
    operator = an_operator(coordinator)
    cycle = (await operator.ask(Cycle, "POST", "/cycles", b"{}")).id
    after = await operator.newest()
    bodies = banks.prepare(cycle, payments=10)
    readers = [Connection(coordinator.url, bank.connection.token) for bank in banks.banks]
    following = [asyncio.create_task(follow(reader, after, "cycle.instructed")) for reader in readers]
    clearing = asyncio.create_task(banks.clear(cycle, bodies, after=after))

    await operator.ask(Cycle, "POST", f"/cycles/{cycle}/cut-off")
    async with asyncio.timeout(60):
        await clearing
        told = await asyncio.gather(*following)

    expected = ["cut_off", "opened", "attesting", "matched", "netted", "approved", "instructed"]
    assert [event.type for event in told[0]] == [f"cycle.{step}" for step in expected]
    assert [event.id for event in told[0]] == sorted({event.id for event in told[0]})
    assert all(found == told[0] for found in told)
    # How many agreed is for operators.
    matched = await operator.event("cycle.matched", cycle, after)
    assert (matched.data["agreed"], matched.data["carried_over"]) == (PAIRS, 0)
    await resubmission_changes_nothing(banks, cycle, bodies)
    async with transaction(coordinator.base.engine) as conn:
        for table, rows in {
            "cuts": COUNT,
            "attestations": COUNT,
            "positions": PAIRS,
            "screenings": COUNT,
            "breaks": 0,
        }.items():
            assert (await conn.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one() == rows
        await events.verify_chain(conn)
    for connection in (operator, *readers):
        connection.close()


async def resubmission_changes_nothing(banks: Banks, cycle: str, bodies: list[Bodies]) -> None:
    """Whoever lost an answer asks again."""

    async def again(number: int) -> None:
        connection = banks.banks[number].connection
        answer = await connection.ask(
            AttestationVerdict, "POST", f"/cycles/{cycle}/attestations", bodies[number].attestation
        )
        assert answer == AttestationVerdict(stored=0, agreed=COUNT - 1)
        await connection.ask(Cycle, "PUT", f"/cycles/{cycle}/cuts", bodies[number].cut)

    await asyncio.gather(*(again(number) for number in range(0, COUNT, 10)))


async def test_of_fifty_that_submit_at_once_each_gets_its_own_answer(coordinator: Coordinator, banks: Banks) -> None:
    """Two that say something wrong don't spoil what the others say in the same moment."""
    operator = an_operator(coordinator)
    cycle = (await operator.ask(Cycle, "POST", "/cycles", b"{}")).id
    bodies, others = banks.prepare(cycle, payments=10), banks.prepare(cycle, payments=9)
    await operator.ask(Cycle, "POST", f"/cycles/{cycle}/cut-off")

    async def cut(number: int) -> int:
        # Bank 0 signs two different cuts; bank 1 tries somebody else's first.
        body = bodies[number].cut
        path = f"/cycles/{cycle}/cuts"
        if number == 1:
            assert (await banks.banks[1].connection.send("PUT", path, bodies[2].cut))[0] == 422
        status, _ = await banks.banks[number].connection.send("PUT", path, body)
        if number == 0:
            assert status == 200
            status, _ = await banks.banks[0].connection.send("PUT", path, others[0].cut)
        return status

    assert await asyncio.gather(*(cut(number) for number in range(COUNT))) == [409] + [200] * (COUNT - 1)
    await operator.event("cycle.attesting", cycle, 0)

    async def state(number: int) -> tuple[int, bytes]:
        body = (others if number == 7 else bodies)[number].attestation
        return await banks.banks[number].connection.send("POST", f"/cycles/{cycle}/attestations", body)

    answers = await asyncio.gather(*(state(number) for number in range(COUNT)))
    assert [number for number, (status, _) in enumerate(answers) if status != 200] == [7]
    assert answers[7][0] == 422
    assert b'"sequence_mismatch"' in answers[7][1]
    assert (await state(7))[0] == 422
    status, _ = await banks.banks[7].connection.send("POST", f"/cycles/{cycle}/attestations", bodies[7].attestation)
    assert status == 200
    matched = await operator.event("cycle.matched", cycle, 0)
    assert (matched.data["agreed"], matched.data["carried_over"]) == (PAIRS, 0)
    async with transaction(coordinator.base.engine) as conn:
        assert (await conn.execute(text("SELECT participant FROM equivocations"))).scalars().all() == [
            banks.banks[0].bic
        ]
    operator.close()
