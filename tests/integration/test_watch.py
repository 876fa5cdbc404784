"""What looks at a bank's database now and then: an outage is waited out and said once, whoever finds it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from failing_server import own_server
from structlog.testing import capture_logs

from compliance.crypto.keys import SigningKey
from gateway.federation.storage.database import asyncpg_pool, migrate
from gateway.federation.storage.postgres import EmbeddedServer
from participants.access import sign_in
from participants.access.sign_in import SignIn
from participants.ledger import MIGRATIONS
from participants.payments import backlog, exposures, unsettled
from participants.payments.backlog import Backlog
from participants.payments.exposures import ExposureWatch
from participants.payments.unsettled import UnsettledWatch
from participants.watch import Outage

BANK = "ALFADEFF"
WAIT_S = 30


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with own_server() as running:
        yield running


async def test_an_outage_is_said_once_and_waited_out(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(exposures, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(unsettled, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(sign_in, "LOOK_SECONDS", 0.05)
    url = server.url("postgres")
    await migrate(url, MIGRATIONS)
    pool, outage = await asyncpg_pool(url, max_size=4), Outage()
    key = SigningKey.generate()
    tasks = [
        ExposureWatch(BANK, pool, outage).task,
        UnsettledWatch(BANK, pool, outage).task,
        Backlog(BANK, pool, outage, held_elsewhere=list).task,
        SignIn(pool, outage, bank=BANK, issuer="", scheme="", key=key, forget=lambda: None).task,
    ]
    with capture_logs() as said:

        async def until(there: Callable[[], bool]) -> None:
            async with asyncio.timeout(WAIT_S):
                while not there():  # noqa: ASYNC110 - the log tells nobody
                    await asyncio.sleep(0.05)

        def lines(event: str) -> int:
            return sum(line["event"].startswith(event) for line in said)

        for task in tasks:
            task.start()
        for outages in (1, 2):
            await asyncio.to_thread(server.stop)
            await until(lambda outages=outages: lines("database away") == outages)
            await asyncio.sleep(1)
            assert lines("database away") == outages
            await asyncio.to_thread(server.start)
            await until(lambda outages=outages: lines("database there again") == outages)
        assert [(task.failure, task.restarts) for task in tasks] == [(None, 0)] * 4
        assert [line for line in said if line["log_level"] == "error"] == []
        for task in tasks:
            await task.stop()
    await pool.close()
