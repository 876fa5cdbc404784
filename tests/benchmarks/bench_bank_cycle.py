"""Milliseconds that a bank with many counterparties takes for its part of a cycle, beside the bare checking.

A real node of a bank with its real database, a coordinator process, an agent process, and simulated counterparties
that sign what the bank's lanes come to. Its lanes are filled before each cycle (`tests/benchmarks/traffic.py`). What
the bank takes is the time from the event that asks for something to what its journal says it did: cut, attestation,
verified instructions, settlement legs. Its processor time, and that of its PostgreSQL server, are from cut-off until
all is posted. Its statements of SQL are counted in a cycle of their own, which isn't timed, by the server's log.

It asks its counterparties for what they were shown of the result, and finds them away: that is in it too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import statistics
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import asyncpg
import msgspec
import psutil
import structlog
import uvloop

from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope
from compliance.cycle.positions import Position, digests, root_over
from compliance.statements import Attestation, SettlementInstruction
from gateway.federation.http.client import MemberIdentity
from gateway.federation.membership.documents import Application, OfferedKey, SettlementAccount
from gateway.federation.messages.cycles import Cycle
from gateway.federation.settings import NodeSettings
from gateway.federation.storage.database import migrate
from gateway.federation.storage.postgres import EmbeddedServer, create_database, dsn
from tests.benchmarks.house import AGENT, House, event_times, node_settings, running_house, running_node
from tests.benchmarks.meters import (
    cpu_seconds,
    forget_memory_peak,
    memory_peak_mib,
    postmaster_of,
    server_cpu_seconds,
)
from tests.benchmarks.rows import Row
from tests.benchmarks.server import own_server
from tests.benchmarks.traffic import Traffic, traffic

BANK = "HUBBDEFF"
CURRENCIES = ("CHF", "EUR", "GBP", "SEK", "USD")
COUNTERPARTIES = 500
PAYMENTS = 2
CYCLES = 3
PATIENCE_S = 120
STEPS = {
    "cut": ("cycle.cut_off", "cycle.cut_signed"),
    "attestation": ("cycle.attesting", "cycle.attested"),
    "verification": ("cycle.instructed", "cycle.instructed"),
    "posting": ("cycle.final", "cycle.settled"),
}
"""What a bank does: the event that asks for it, and what its journal calls it when it is done."""

DONE = "SELECT type, max(recorded_at), count(*) FROM event WHERE sequence > $1 AND type LIKE 'cycle.%' GROUP BY type"


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One cycle at the bank, in milliseconds."""

    steps: dict[str, float]
    cpu: float
    postgres_cpu: float
    memory_peak: float
    bare: float

    @property
    def all(self) -> float:
        return sum(self.steps.values())


@dataclass(frozen=True, kw_only=True)
class Bank:
    """The bank's node, and what is on its database's server."""

    traffic: Traffic
    process: psutil.Process
    postmaster: psutil.Process
    log: Path


def run() -> list[Row]:
    """Return rows of {"what", "ours", "peer", "peer_name", "unit", "note"}; lower is better."""
    counterparties = int(os.environ.get("CONCORDAT_BENCH_COUNTERPARTIES", COUNTERPARTIES))
    # It writes into the bank's ledger beside the node: whoever finds its books overtaken says so, and begins again.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with own_server() as (server, place), own_server() as (own, _):
        return uvloop.run(_measure(server, own, place, counterparties))


async def _measure(server: EmbeddedServer, own: EmbeddedServer, place: Path, counterparties: int) -> list[Row]:
    directory = place / "house"
    directory.mkdir()
    database = await create_database(own.url("postgres"), "bank")
    await migrate(database, "participants.ledger")
    settings = node_settings(BANK, place / "bank", database)
    async with (
        running_house(
            server.url("postgres"), directory, counterparties, CURRENCIES, guests=[_application(settings)]
        ) as house,
        traffic(database, BANK, AGENT, house.banks.banks, CURRENCIES) as lanes,
    ):
        await lanes.open_account()
        await lanes.exchange(PAYMENTS)
        with running_node("participant", settings, house.environment) as process:
            postmaster = await postmaster_of(database)
            log = own.directory / "server.log"
            bank = Bank(traffic=lanes, process=psutil.Process(process.pid), postmaster=postmaster, log=log)
            timings = [await _clear(house, bank) for _ in range(1 + CYCLES)][1:]
            counted = await _statements(house, bank, own)
    return _rows(counterparties, timings, counted)


def _application(settings: NodeSettings) -> Application:
    identity = MemberIdentity.made(BANK, settings.keys_dir)
    return Application(
        bic=BANK,
        name="The bank",
        url=settings.url,
        keys=(OfferedKey(use="auth", x=identity.auth.x), OfferedKey(use="sign", x=identity.sign.x)),
        settlement=SettlementAccount(agent=AGENT, account=f"ACC-{BANK}"),
    )


async def _clear(house: House, bank: Bank) -> Timing:
    """Clear the open cycle until the bank has posted it, and fill its lanes again."""
    operator, banks, connection = house.operator, house.banks, bank.traffic.connection
    cycle = (await operator.ask(Cycle, "GET", "/cycles/current")).id
    house.cursor = after = await operator.newest(house.cursor)
    positions = await bank.traffic.positions()
    bodies = banks.sign(cycle, positions, screened=2 * PAYMENTS * len(CURRENCIES))
    clearing = asyncio.create_task(banks.clear(cycle, bodies, after=after))
    await asyncio.sleep(1)  # until all banks wait for news
    last = await connection.fetchval("SELECT coalesce(max(sequence), 0) FROM event")
    forget_memory_peak(bank.process)
    cpu, postgres = cpu_seconds(bank.process), server_cpu_seconds(bank.postmaster)
    await operator.ask(Cycle, "POST", f"/cycles/{cycle}/cut-off")
    await operator.event("cycle.final", cycle, after)
    await clearing
    done = await _settled(connection, last)
    cpu, postgres = cpu_seconds(bank.process) - cpu, server_cpu_seconds(bank.postmaster) - postgres
    asked = await event_times(operator, cycle, after)
    took = {step: (done[finished][0].timestamp() * 1e3 - asked[began]) for step, (began, finished) in STEPS.items()}
    bare = await _bare(house, bank, cycle, positions)
    await bank.traffic.exchange(PAYMENTS)
    return Timing(
        steps=took, cpu=cpu * 1e3, postgres_cpu=postgres * 1e3, memory_peak=memory_peak_mib(bank.process), bare=bare
    )


async def _settled(connection: asyncpg.Connection, after: int) -> dict[str, tuple[datetime, int]]:
    """Wait until the bank has posted every currency, and return what it did when."""
    for _ in range(PATIENCE_S * 50):
        if (done := await _done(connection, after)).get("cycle.settled", (None, 0))[1] == len(CURRENCIES):
            return done
        await asyncio.sleep(0.02)
    raise RuntimeError(f"the bank hasn't posted a cycle: {done}")


async def _done(connection: asyncpg.Connection, after: int) -> dict[str, tuple[datetime, int]]:
    """Return when the bank last did each thing, and how many times."""
    return {row[0]: (row[1], row[2]) for row in await connection.fetch(DONE, after)}


async def _bare(house: House, bank: Bank, cycle: str, positions: list[Position]) -> float:
    """Return the milliseconds of what can't be left out: hash, sign and verify once, and one COPY of the postings."""
    (key,) = [member.sign for member in house.banks.banks[:1]]
    keys = {house.banks.coordinator.kid: house.banks.coordinator}
    said = await house.banks.banks[0].connection.ask(list[Envelope], "GET", f"/cycles/{cycle}/instructions")
    connection = bank.traffic.connection
    await connection.execute("CREATE TEMPORARY TABLE IF NOT EXISTS bare (bank text, currency text, amount numeric)")
    started = time.perf_counter()
    root = root_over(digests(cycle, positions))
    attestation = Attestation(cycle=cycle, participant=BANK, statements=len(positions), root=root)
    msgspec.json.encode([dsse.sign(attestation, key), positions])
    for envelope in said:
        dsse.verify(envelope, SettlementInstruction, keys)
    rows = [(p.low, p.currency, int(minor)) for p in positions for minor in (p.forth_minor, p.back_minor)]
    await connection.copy_records_to_table("bare", records=rows)
    return (time.perf_counter() - started) * 1e3


async def _statements(house: House, bank: Bank, own: EmbeddedServer) -> int:
    """Return how many statements of SQL the bank's database gets in a cycle, by the server's log."""
    owner = await asyncpg.connect(dsn(own.url("postgres")))
    try:
        for setting, word in (("log_statement", "'all'"), ("log_line_prefix", "'%d %a: '")):
            await owner.execute(f"ALTER SYSTEM SET {setting} = {word}")
        await owner.execute("SELECT pg_reload_conf()")
        begin = bank.log.stat().st_size
        await _clear(house, bank)
        with bank.log.open() as log:
            log.seek(begin)
            said = [line for line in log if line.startswith(f"bank concordat {BANK}") and "LOG:  " in line]
        return len(said)
    finally:
        await owner.close()


def _rows(counterparties: int, timings: list[Timing], counted: int) -> list[Row]:
    pairs = counterparties * len(CURRENCIES)
    spread = f"{min(t.all for t in timings):,.0f} to {max(t.all for t in timings):,.0f} ms"
    what = f"{counterparties} counterparties, {len(CURRENCIES)} currencies: a bank's part of a cycle"
    bare = statistics.median(t.bare for t in timings)
    cpu, postgres = (statistics.median(t) for t in zip(*((t.cpu, t.postgres_cpu) for t in timings), strict=True))
    rows = [_row(what, statistics.median(t.all for t in timings), bare, "ms", spread)]
    rows += [_row(f"  {step}", statistics.median(t.steps[step] for t in timings), None, "ms", "") for step in STEPS]
    return [
        *rows,
        _row("  the node's CPU", cpu, None, "ms", f"{cpu * 1e3 / pairs:,.0f} µs a pair"),
        _row("  its PostgreSQL's CPU", postgres, None, "ms", f"{postgres * 1e3 / pairs:,.0f} µs a pair"),
        _row("  its statements of SQL", counted, None, "", f"of a cycle with {2 * pairs:,} lanes"),
        _row("  the node's memory", max(t.memory_peak for t in timings), None, "MiB", "peak"),
    ]


def _row(what: str, ours: float, peer: float | None, unit: str, note: str) -> Row:
    name = "hash, sign, verify; one COPY" if peer else ""
    return {"what": what, "ours": ours, "peer": peer, "peer_name": name, "unit": unit, "note": note}


if __name__ == "__main__":
    for row in run():
        peer = f"{row['ours'] / row['peer']:5.1f} x {row['peer']:8.1f}" if row["peer"] else ""
        print(f"{row['what']:75s} {row['ours']:10,.1f} {row['unit']:5s} {peer:20s} {row['note']}")
