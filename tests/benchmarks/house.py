"""A clearing house to be measured: a coordinator process, an agent process, and banks without ledgers in this one.

Run as a program (`python -m tests.benchmarks.house BANKS DIRECTORY POSTGRESQL_URL`) it clears a cycle for each line of
its standard input and prints what that took as a line of JSON; so one checkout can measure another.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import psutil
import uvloop

from compliance.crypto import dsse
from compliance.crypto.keys import SigningKey
from compliance.cycle.approval import ApprovalRule
from compliance.cycle.exposure import UNSTATED_MINOR
from compliance.cycle.positions import Position, digests, root_over
from compliance.statements import Attestation
from compliance.trust import Anchor
from gateway.coordinator.app import CoordinatorCore
from gateway.coordinator.registry.lifecycle import Step
from gateway.coordinator.rulebook import ExposureRule, Rulebook, load
from gateway.federation.http.client import MemberIdentity
from gateway.federation.identity.tokens import issue_access_token
from gateway.federation.membership.documents import Application, OfferedKey
from gateway.federation.messages.attestation import AttestationSubmission
from gateway.federation.messages.cycles import Cycle
from gateway.federation.messages.events import Event, Events
from gateway.federation.settings import NodeSettings
from gateway.federation.storage.database import migrate
from gateway.federation.storage.postgres import create_database, dsn
from tests.benchmarks.meters import (
    Watch,
    cpu_seconds,
    forget_memory_peak,
    memory_peak_mib,
    postmaster_of,
    server_cpu_seconds,
    watching,
)
from tests.simulated_banks import Banks, Bodies, Connection
from tests.support import free_port

COORDINATOR, AGENT = "CNCDXXC0", "AGNTXXS0"
OPERATOR, OPERATOR_KEY = "alice", "alice.pem"
PAYMENTS = 25
DEADLINE_S = 3_600
STEPS = ("cycle.cut_off", "cycle.attesting", "cycle.matched", "cycle.instructed")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One cycle, in milliseconds. `cuts`, `attestation` and `outcome` are by the events' own times.

    Of a cycle that didn't get to finality, `final` is when every bank had verified its instructions.

    Processor time and `held_up`, the slowest answer to a cheap question, are from cut-off to signed instructions.
    `memory_peak` is the coordinator's in MiB, from cut-off to finality.
    """

    instructed: float
    delivered: float
    final: float = 0.0
    cuts: float
    attestation: float
    outcome: float
    coordinator_cpu: float
    banks_cpu: float
    postgres_cpu: float = 0.0
    held_up: float = 0.0
    memory_peak: float = 0.0
    bare: float


@dataclass(kw_only=True)
class House:
    """A clearing house under measurement. `cursor` is how far the operator has read the feed."""

    operator: Connection
    banks: Banks
    process: psutil.Process
    postmaster: psutil.Process
    watch: Watch
    database: str
    directory: Path
    environment: dict[str, str]
    """What its members' nodes are told of it."""
    cursor: int = 0


# --- one cycle ------------------------------------------------------------------------------------------


async def clear(
    house: House, payments: int = PAYMENTS, scale: int = 1, *, bare: bool = True, to_finality: bool = True
) -> Timing:
    """Clear the open cycle and wait until it is final, or until every bank has its instructions.

    `bare` measures beside it what can't be left out.
    """
    operator, banks = house.operator, house.banks
    cycle = (await operator.ask(Cycle, "GET", "/cycles/current")).id
    house.cursor = after = await operator.newest(house.cursor)
    bodies = banks.prepare(cycle, payments=payments, scale=scale)
    clearing = asyncio.create_task(banks.clear(cycle, bodies, after=after))
    await asyncio.sleep(1)  # until all banks wait for news
    forget_memory_peak(house.process)
    await house.watch.begin()
    before = _used(house)
    started = time.perf_counter()
    await operator.ask(Cycle, "POST", f"/cycles/{cycle}/cut-off")
    await operator.event("cycle.instructed", cycle, after)
    instructed = time.perf_counter()
    coordinator_cpu, postgres_cpu, banks_cpu = (now - then for now, then in zip(_used(house), before, strict=True))
    held_up = await house.watch.end()
    await clearing
    delivered = time.perf_counter()
    if to_finality:
        await operator.event("cycle.final", cycle, after)
    final = time.perf_counter()
    banks.settled += payments
    times = await event_times(operator, cycle, after)
    at = [times[step] for step in STEPS]
    return Timing(
        instructed=(instructed - started) * 1e3,
        delivered=(delivered - started) * 1e3,
        final=(final - started) * 1e3,
        cuts=at[1] - at[0],
        attestation=at[2] - at[1],
        outcome=at[3] - at[2],
        coordinator_cpu=coordinator_cpu * 1e3,
        banks_cpu=banks_cpu * 1e3,
        postgres_cpu=postgres_cpu * 1e3,
        held_up=held_up,
        memory_peak=memory_peak_mib(house.process),
        bare=await bare_seconds(house, cycle, bodies) * 1e3 if bare else 0.0,
    )


def _used(house: House) -> tuple[float, float, float]:
    """Return the processor seconds of the coordinator, of its PostgreSQL server and of this process."""
    return cpu_seconds(house.process), server_cpu_seconds(house.postmaster), time.process_time()


async def event_times(operator: Connection, cycle: str, after: int) -> dict[str, float]:
    """Return when the last event of each type was recorded for a cycle, in milliseconds."""
    found: dict[str, Event] = {}
    while (page := await operator.ask(Events, "GET", f"/events?after={after}&limit=1000")).events:
        found |= {event.type: event for event in page.events if event.cycle == cycle}
        after = page.next
    return {type_: datetime.fromisoformat(event.at).timestamp() * 1e3 for type_, event in found.items()}


async def bare_seconds(house: House, cycle: str, bodies: list[Bodies]) -> float:
    """Return the seconds that it takes to check what was signed, pair by pair, and to store each pair by one COPY."""
    signers = [{bank.sign.kid: bank.sign.verifying_key} for bank in house.banks.banks]
    connection = await asyncpg.connect(dsn(house.database))
    columns = ", ".join(f"{name} text" for name in Position.__struct_fields__)
    try:
        await connection.execute(f"CREATE TABLE IF NOT EXISTS bare (sha256 bytea PRIMARY KEY, {columns})")
        started = time.perf_counter()
        stated: dict[bytes, Position] = {}
        agreed = 0
        for body, keys in zip(bodies, signers, strict=True):
            submission = msgspec.json.decode(body.attestation, type=AttestationSubmission)
            attestation = dsse.verify(submission.attestation, Attestation, keys)
            leaves = digests(cycle, submission.positions)
            if root_over(leaves) != attestation.root:
                raise RuntimeError("a simulated bank signed something else")
            for digest, position in zip(leaves, submission.positions, strict=True):
                agreed += digest in stated
                stated[digest] = position
        rows = [(digest, *map(str, msgspec.structs.astuple(position))) for digest, position in stated.items()]
        await connection.copy_records_to_table("bare", records=rows)
        took = time.perf_counter() - started
        await connection.execute("DROP TABLE bare")
    finally:
        await connection.close()
    if agreed != len(stated):
        raise RuntimeError(f"{agreed} pairs agree of {len(stated)}")
    return took


# --- the clearing house ---------------------------------------------------------------------------------


@asynccontextmanager
async def running_house(
    server_url: str, directory: Path, count: int, currencies: tuple[str, ...], *, guests: Sequence[Application] = ()
) -> AsyncIterator[House]:
    """Run a coordinator with so many active banks, and a settlement agent that lends them what they need.

    `guests` are active as well; whoever brings them lets them take part.
    """
    databases = {}
    for package in ("gateway.coordinator", "gateway.agent"):
        name = f"{package.rpartition('.')[2]}_{directory.name.replace('-', '_')}"
        databases[package] = await create_database(server_url, name)
        await migrate(databases[package], package)
    rules = _rulebook(currencies, screened=not guests)
    (directory / "rulebook.json").write_bytes(msgspec.json.encode(rules))
    settings = node_settings(COORDINATOR, directory / "coordinator", databases["gateway.coordinator"])
    agent = node_settings(AGENT, directory / "agent", databases["gateway.agent"])
    MemberIdentity.made(settings.bic, settings.keys_dir)
    base = CoordinatorCore.open(settings, databases["gateway.coordinator"], rules)
    try:
        await base.register_itself("Clearing house")
        banks = Banks.of(
            count,
            currencies=currencies,
            url=settings.url,
            coordinator=COORDINATOR,
            token_key=base.identity.token,
            coordinator_key=base.identity.sign.verifying_key,
        )
        await _admit(base, [*(bank.application(AGENT) for bank in banks.banks), *guests], agent, currencies)
        key = SigningKey.load_or_create(directory / OPERATOR_KEY)
        await base.registry.add_client(OPERATOR, "operator", key.x, by="bench", reason="set up")
    finally:
        await base.engine.dispose()
    Anchor.of(COORDINATOR, base.identity.sign.verifying_key).write(directory / "anchor.json")
    operator = Connection(settings.url, partial(_token, base.identity.token, settings, OPERATOR, "operator", key.kid))
    more = {"CONCORDAT_RULEBOOK": str(directory / "rulebook.json"), "CONCORDAT_ANCHOR": str(directory / "anchor.json")}
    more["CONCORDAT_COORDINATOR_URL"] = settings.url
    for limit in ("CONCORDAT_CONNECTIONS_MAX", "CONCORDAT_CONNECTIONS_PER_ADDRESS_MAX"):
        more[limit] = str(count + 1_000)  # all banks are at one address here
    more["CONCORDAT_ORDER_BYTES_MAX"] = str(10**9 - 1)  # where nobody settles so much, what comes before is measured
    more["CONCORDAT_BODY_SECONDS"] = str(DEADLINE_S)  # and all of them send from one process
    with ExitStack() as stack:
        process = stack.enter_context(running_node("coordinator", settings, more))
        stack.enter_context(running_node("agent", agent, more))
        await _open_accounts(agent, [*banks.names, *(guest.bic for guest in guests)], currencies)
        await operator.ask(Cycle, "POST", "/cycles", b"{}")
        yield House(
            operator=operator,
            banks=banks,
            process=psutil.Process(process.pid),
            postmaster=await postmaster_of(databases["gateway.coordinator"]),
            watch=stack.enter_context(watching(settings.url)),
            database=databases["gateway.coordinator"],
            directory=directory,
            environment=more,
        )
        operator.close()
        banks.close()


def _rulebook(currencies: tuple[str, ...], *, screened: bool) -> Rulebook:
    """Return rules by which nobody needs to be asked, and nobody is late: how long it takes is what is measured.

    Guests may have payments that nobody screened.
    """
    rules = load()
    return msgspec.structs.replace(
        rules,
        currencies=currencies,
        slots=(),
        calendar="every_day",
        settlement_systems={},
        cut_deadline_s=DEADLINE_S,
        attestation_deadline_s=DEADLINE_S,
        approval=ApprovalRule(mode="never", thresholds_minor={}),
        aggregate_flow=msgspec.structs.replace(rules.aggregate_flow, floor_minor={}),
        checks=rules.checks if screened else msgspec.structs.replace(rules.checks, screening="warn"),
        exposure=ExposureRule(default_minor=dict.fromkeys(currencies, str(UNSTATED_MINOR))),
    )


def node_settings(bic: str, directory: Path, database: str) -> NodeSettings:
    """Return the settings of a node on a free port of this machine."""
    port = free_port()
    return NodeSettings(
        bic=bic, url=f"http://127.0.0.1:{port}", port=port, data_dir=directory, database_url=database, log_level="info"
    )


async def _admit(
    base: CoordinatorCore, members: Sequence[Application], agent: NodeSettings, currencies: tuple[str, ...]
) -> None:
    identity = MemberIdentity.made(AGENT, agent.keys_dir)
    keys = (OfferedKey(use="auth", x=identity.auth.x), OfferedKey(use="sign", x=identity.sign.x))
    application = Application(bic=AGENT, name="Settlement agent", url=agent.url, keys=keys)
    await base.registry.admit(application, kind="agent", caps_minor={}, by="bench", reason="set up")
    # One version of the trust list for all of them, as a house has it that didn't begin today.
    registry, said = base.registry, {"by": "bench", "reason": "set up"}
    async with registry._publishing() as conn:
        for member in members:
            await registry._enrol(conn, member, kind="participant")
            for currency in currencies:
                await registry._set_cap(conn, member.bic, currency, 10**18, **said)
            for step in (Step.APPROVE, Step.ACTIVATE):
                await registry._step(conn, member.bic, step, **said)


async def _open_accounts(agent: NodeSettings, names: Sequence[str], currencies: tuple[str, ...]) -> None:
    key = MemberIdentity.made(AGENT, agent.keys_dir).token
    staff = Connection(agent.url, partial(_token, key, agent, "dora", "staff"))
    for name in names:
        for currency in currencies:
            opening = {"participant": name, "currency": currency, "overdraft_limit_minor": str(10**15 - 1)}
            await staff.ask(Any, "POST", "/accounts", msgspec.json.encode(opening))
    staff.close()


def _token(key: SigningKey, node: NodeSettings, subject: str, role: str, signed_in_by: str = "") -> str:
    return issue_access_token(
        key=key,
        issuer=node.url,
        subject=subject,
        audience=node.bic,
        client_id=subject,
        role=role,
        signed_in_by=signed_in_by,
    )


@contextmanager
def running_node(kind: str, settings: NodeSettings, more: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run `concordat <kind> serve` until the block ends."""
    environment = {
        **os.environ,
        **more,
        "CONCORDAT_BIC": settings.bic,
        "CONCORDAT_URL": settings.url,
        "CONCORDAT_PORT": str(settings.port),
        "CONCORDAT_DATA_DIR": str(settings.data_dir),
        "CONCORDAT_DATABASE_URL": settings.database_url or "",
    }
    log = settings.data_dir / "node.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", kind, "serve"],
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,  # Ctrl-C is for who runs it, who stops it then
        )
        try:
            deadline = time.monotonic() + 60
            while not _is_ready(settings.url):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the {kind} didn't start:\n{log.read_text()[-2000:]}")
                time.sleep(0.1)
            yield process
        finally:
            process.terminate()
            process.wait(timeout=20)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", trust_env=False).is_success
    except httpx.TransportError:
        return False


async def _serve(count: int, directory: Path, server_url: str) -> None:
    """Clear a cycle for each line of standard input, and print what it took."""
    async with running_house(server_url, directory, count, ("EUR",)) as house:
        print("ready", flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(msgspec.json.encode(await clear(house)).decode(), flush=True)


if __name__ == "__main__":
    place = Path(sys.argv[2])
    place.mkdir(parents=True)
    uvloop.run(_serve(int(sys.argv[1]), place, sys.argv[3]))
