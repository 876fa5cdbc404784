"""The coordinator's book of a cycle: what replicas, lost answers and consoles make of it, and what is read for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal

import pytest
from clearing_house import (
    ALFA,
    BANKS,
    BETA,
    DELT,
    GAMA,
    House,
    NewHouse,
    anchor_of,
    reasons,
    result_of,
    trade,
)
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from compliance.cycle.states import State
from compliance.verifier.verify import verify_bytes as verify
from gateway.coordinator.cycles.service import CycleService
from gateway.federation.storage.database import create_engine

Moment = Literal["before", "after"]
ALFA_BETA = (ALFA, BETA)


class Line:
    """A way to the house's database that breaks at a commit: before the server hears of it, or before it answers."""

    def __init__(self) -> None:
        self.breaks: Moment | None = None
        self.commits = 1
        """At which commit it breaks, counted from when it was told to."""
        self.broken = 0

    @asynccontextmanager
    async def opened(self, house: House) -> AsyncIterator[AsyncEngine]:
        url = house.engine.url
        directory = str(url.query["host"]) if "host" in url.query else None

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there = (
                asyncio.open_unix_connection(f"{directory}/.s.PGSQL.{url.port or 5432}")
                if directory is not None
                else asyncio.open_connection(url.host, url.port or 5432)
            )
            answers, asks = await there
            back = asyncio.create_task(self._pump(answers, writer))
            while data := await reader.read(65_536):
                self.commits -= b"COMMIT" in data
                breaks = self.breaks
                if breaks is not None and b"COMMIT" in data and not self.commits:
                    self.breaks, self.broken = None, self.broken + 1
                    back.cancel()
                    await asyncio.wait([back])
                    if breaks == "after":
                        asks.write(data)
                        await answers.read(65_536)  # It is committed, and nobody is told.
                    break
                asks.write(data)
            asks.transport.abort()
            writer.transport.abort()

        listener = await asyncio.start_server(take, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        through = url.difference_update_query(["host", "port"]).set(host="127.0.0.1", port=port)
        engine = create_engine(through.render_as_string(hide_password=False))
        try:
            yield engine
        finally:
            await engine.dispose()
            listener.close()

    @staticmethod
    async def _pump(answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await answers.read(65_536):
            writer.write(data)
        writer.close()


@contextmanager
def statements_of(engine: AsyncEngine) -> Iterator[list[str]]:
    """Note what is asked of a database."""
    asked: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    yield asked
    event.remove(engine.sync_engine, "before_cursor_execute", note)


async def same_views(cycle: str, *services: CycleService) -> None:
    """Check that replicas show the same, and what one shows that knows nothing but the tables."""
    first, *others = services
    for other in others:
        assert await other.views.progress(cycle) == await first.views.progress(cycle)
        assert await other.views.positions(cycle, None) == await first.views.positions(cycle, None)
        assert await other.views.breaks(cycle, None) == await first.views.breaks(cycle, None)


async def test_replicas_judge_by_what_each_other_took_in(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    one, two = house.service(), house.service()
    cycle = await house.cut_off(one)
    for turn, bank in enumerate(BANKS):
        submission = house.submission(cycle, bank, wrong_by={(ALFA_BETA, "EUR"): int(bank == BETA)})
        replica, other = (one, two) if turn % 2 else (two, one)
        answer = await replica.attestation.submit_attestation(bank, cycle, submission)
        assert await other.attestation.submit_attestation(bank, cycle, submission) == answer
        await same_views(cycle, one, two, house.service())
    mended = house.statement(cycle, ALFA_BETA, "EUR", revision=2)
    for bank, replica in ((BETA, one), (ALFA, two)):
        await replica.attestation.submit_attestation(bank, cycle, house.attestation(cycle, bank, mended))
        await same_views(cycle, one, two, house.service())
    assert await one.advance(cycle) is State.FINAL
    assert (await result_of(one, cycle)).carried_over == ()
    verify(await two.export(cycle), anchor_of(house))


async def test_replicas_that_take_in_at_the_same_moment(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    services = [house.service() for _ in range(3)]
    cycle = await house.cut_off(services[0])
    answers = await asyncio.gather(
        *(
            service.attestation.submit_attestation(bank, cycle, house.submission(cycle, bank))
            for service in services
            for bank in BANKS
        )
    )
    assert all(not answer.refused and not answer.breaks for answer in answers)
    await same_views(cycle, *services, house.service())
    assert (await services[0].views.progress(cycle)).pairs.agreed == len({p for b in BANKS for p in house.pairs(b)})
    assert await services[1].advance(cycle) is State.FINAL
    verify(await services[2].export(cycle), anchor_of(house))


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_commit_of_which_nobody_knows_how_it_ended(new_house: NewHouse, moment: Moment) -> None:
    house = await new_house()
    trade(house)
    line = Line()
    async with line.opened(house) as engine:
        service = house.service(engine)
        cycle = await house.cut_off(service)
        for number, bank in enumerate(BANKS, 1):
            submission = house.submission(cycle, bank)
            before = await house.service().views.progress(cycle)
            # The first commit ends the transaction that reads who it is, the second one stores.
            line.breaks, line.commits = moment, 2
            with pytest.raises(Exception, match=r".+"):  # whatever the driver makes of it
                await service.attestation.submit_attestation(bank, cycle, submission)
            assert line.broken == number
            await same_views(cycle, service, house.service())
            assert (await service.views.progress(cycle) == before) is (moment == "before")
            again = await service.attestation.submit_attestation(bank, cycle, submission)
            assert again == await house.service().attestation.submit_attestation(bank, cycle, submission)
            await same_views(cycle, service, house.service())
        assert await service.advance(cycle) is State.FINAL
        assert (await result_of(service, cycle)).carried_over == ()
        verify(await service.export(cycle), anchor_of(house))


async def test_with_a_break_open_nothing_is_read_again(new_house: NewHouse) -> None:
    house = await new_house()
    trade(house)
    service = house.service()
    cycle = await house.cut_off(service)
    await house.attest(service, cycle, [ALFA, GAMA, DELT])
    wrong = house.submission(cycle, BETA, wrong_by={(ALFA_BETA, "EUR"): 1})
    await service.attestation.submit_attestation(BETA, cycle, wrong)
    assert await service.advance(cycle) is State.ATTESTING
    with statements_of(house.engine) as asked:
        for _ in range(3):
            assert await service.advance(cycle) is State.ATTESTING
            await service.views.progress(cycle)
            await service.views.positions(cycle, None)
            await service.views.breaks(cycle, None)
            await service.views.summaries(None, limit=5, before=None, value_date=None)
    assert asked
    read = [
        one for one in asked if any(f" {of}" in one for of in ("cuts", "positions p", "lane_settlements", "statements"))
    ]
    # How many statements each bank made is counted from what stands beside them.
    assert {one for one in read if "octet_length" not in one} == set()
    news = [one for one in asked if "FROM attestations WHERE cycle" in one and "octet_length" not in one]
    assert all("id > " in one for one in news)
    house.clock.pass_s(301)
    assert await service.advance(cycle) is State.FINAL
    assert reasons(await result_of(service, cycle)) == {("EUR", ALFA_BETA): "break"}


async def test_an_attestation_is_taken_in_by_as_many_statements_whatever_it_holds(new_house: NewHouse) -> None:
    house = await new_house()
    for number in range(1, 4):
        house.pay(ALFA, BANKS[number], "EUR", 100)
        house.pay(BANKS[number], ALFA, "JPY", 100)
    house.pay(BETA, GAMA, "EUR", 5)
    service = house.service()
    cycle = await house.cut_off(service)
    await service.attestation.submit_attestation(DELT, cycle, house.submission(cycle, DELT))
    counts = []
    for bank in (BETA, ALFA, GAMA):
        with statements_of(house.engine) as asked:
            await service.attestation.submit_attestation(bank, cycle, house.submission(cycle, bank))
        counts.append(len([one for one in asked if "INSERT INTO positions" not in one]))
    assert len(set(counts)) == 1
