"""A federation of the release before is stopped between two cycles, and goes on as processes of this one.

`tests/evidence/federation-schema-0005.tar.xz` holds what the processes of a clearing house, an agent and three banks
left behind: every row of their databases, keys, trust lists, the rulebook. Two cycles are settled, a pair was carried
over; in the open one a payment is held, one disputed, and one queued for a bank that was killed.
"""

from __future__ import annotations

import asyncio
import json
import tarfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from earlier_databases import lay_down
from support import NewDatabase, uuid7

from compliance.crypto.keys import SigningKey
from compliance.trust import Anchor
from compliance.verifier.verify import verify_bytes
from gateway.agent import fsck as agent_fsck
from gateway.demo.desks import BankDesk, Operator, Staff
from gateway.demo.processes import Node, ProcessError, Supervisor, free_ports, run
from gateway.federation.http.client import FederationClient
from gateway.federation.membership.trust import TrustError, TrustStore
from gateway.federation.messages.proposals import Decision, ProposalRequest
from gateway.federation.storage.database import migrate
from gateway.federation.storage.postgres import PostgresError, dsn
from participants.api.messages import PaymentView
from participants.audit.fsck import fsck
from participants.roles import Role

LEFT_BEHIND = Path(__file__).parents[1] / "evidence" / "federation-schema-0005.tar.xz"
COORDINATOR, AGENT, BANKS = "CNCDXXC0", "CNCDXXS0", ("ALDRXXA0", "BRCHXXB0", "CEDRXXC0")
PORTS = {bic: port for port, bic in enumerate((COORDINATOR, AGENT, *BANKS), start=21731)}
"""Part of the addresses on the trust list that was left behind."""
KINDS = {COORDINATOR: "coordinator", AGENT: "agent"}
PACKAGES = {"coordinator": "gateway.coordinator", "agent": "gateway.agent", "participant": "participants.ledger"}
HELD, DISPUTED = "a2635958-128d-45c0-a0ba-5d28c68165aa", "40d11ef1-5756-468e-9fca-0de605ab3c66"
WAIT_S = 60


class House:
    """The federation's processes and people; `open` lays down what was left behind."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.supervisor = Supervisor(directory / "logs")
        self.databases: dict[str, str] = {}
        self.nodes: dict[str, Node] = {}
        self.people = AsyncExitStack()

    async def open(self, new_database: NewDatabase) -> None:
        with tarfile.open(LEFT_BEHIND) as archive:
            archive.extractall(self.directory, filter="data")
        private_ports = free_ports(len(PORTS))
        for (bic, port), private_port in zip(PORTS.items(), private_ports, strict=True):
            kind = KINDS.get(bic, "participant")
            left = json.loads((self.directory / "databases" / f"{kind}_{bic.lower()}.json").read_text("utf-8"))
            self.databases[bic] = await new_database()
            await lay_down(self.databases[bic], PACKAGES[kind], left["revision"], left["tables"])
            home = self.directory / (kind if bic in KINDS else f"banks/{bic}")
            settings = {
                "BIC": bic,
                "URL": self.url(bic),
                "HOST": "127.0.0.1",
                "PORT": str(port),
                "PRIVATE_PORT": str(private_port),
                "DATA_DIR": str(home),
                "DATABASE_URL": dsn(self.databases[bic]),
                "ANCHOR": str(self.directory / "trust-anchor.json"),
                "COORDINATOR_URL": self.url(COORDINATOR),
                "RULEBOOK": str(self.directory / "rulebook.json"),
            }
            environment = {f"CONCORDAT_{name}": value for name, value in settings.items()}
            self.nodes[bic] = self.supervisor.add(bic, (kind, "serve"), environment, self.url(bic))

    def url(self, bic: str) -> str:
        return f"http://127.0.0.1:{PORTS[bic]}"

    async def start(self, *bics: str) -> None:
        for bic in bics:
            self.nodes[bic].start()
        await asyncio.to_thread(self.supervisor.wait_ready, *(self.nodes[bic] for bic in bics))

    def operator(self, name: str) -> Operator:
        key = SigningKey.load(self.directory / "operators" / name / "auth.pem")
        operator = Operator(COORDINATOR, self.url(COORDINATOR), name, key)
        self.people.push_async_callback(operator.close)
        return operator

    def desk(self, bic: str) -> BankDesk:
        desk = BankDesk(bic, self.url(bic), self._token_key(bic), "sam")
        self.people.push_async_callback(desk.close)
        return desk

    def staff(self, bic: str, name: str, role: Role) -> Staff:
        staff = Staff(bic, self.url(bic), self._token_key(bic), name, role=role)
        self.people.push_async_callback(staff.close)
        return staff

    def _token_key(self, bic: str) -> SigningKey:
        return SigningKey.load(self.directory / "banks" / bic / "keys" / "token.pem")

    async def prove(self) -> None:
        """Recompute every bank's and the agent's books from their journals."""
        for bic in BANKS:
            report = await fsck(self.databases[bic], bic)
            assert [(check.name, check.difference) for check in report.checks if not check.ok] == [], bic
        connection = await asyncpg.connect(dsn(self.databases[AGENT]))
        try:
            assert [check for check in await agent_fsck.fsck(connection) if not check.passed] == []
        finally:
            await connection.close()


@pytest.fixture
async def house(tmp_path: Path, new_database: NewDatabase) -> AsyncIterator[House]:
    house = House(tmp_path)
    await house.open(new_database)
    try:
        yield house
    finally:
        await house.people.aclose()
        await asyncio.to_thread(house.supervisor.stop)


def set_exposure(rulebook: Path) -> None:
    """Put into a rulebook of before what this release asks for."""
    rules: dict[str, Any] = json.loads(rulebook.read_bytes())
    rules["version"] += "+exposure"
    rules["exposure"] = {"default_minor": dict.fromkeys(rules["currencies"], "1000000000")}
    rulebook.write_text(json.dumps(rules))


async def wait_for(reached: Callable[[], Awaitable[bool]]) -> None:
    give_up_at = time.monotonic() + WAIT_S
    while not await reached():
        assert time.monotonic() < give_up_at
        await asyncio.sleep(0.1)


async def clear(alice: Operator, bob: Operator, desks: dict[str, BankDesk]) -> str:
    """Cut the open cycle off, approve it and wait until every bank has posted it; return its id."""
    cycle = await alice.open_cycle()
    await alice.cut_off(cycle)

    async def is_netted() -> bool:
        return (await alice.progress(cycle)).cycle.state == "netted"

    async def is_final() -> bool:
        return (await alice.progress(cycle)).cycle.state == "final"

    async def is_posted() -> bool:
        return all([(await desk.cycle(cycle)).settled for desk in desks.values()])

    await wait_for(is_netted)
    proposal = await alice.propose(cycle, ProposalRequest(action="approve", reason="looked at"))
    await bob.decide(proposal.id, Decision(decision="confirm", reason="seen, too"))
    await wait_for(is_final)
    await wait_for(is_posted)
    return cycle


def order(creditor: str, account: str) -> dict[str, Any]:
    return {
        "id": uuid7(),
        "creditor_agent": creditor,
        "amount_minor": "1",
        "currency": "EUR",
        "debtor_name": "Anna Alder",
        "creditor_account": account,
        "creditor_name": "Berta Birch",
    }


async def pay_around(desks: dict[str, BankDesk]) -> None:
    """Let a customer with money at each bank pay one at the next."""
    richest = {}
    for bic, desk in desks.items():
        euros = [one for one in await desk.accounts("customer") if one.currency == "EUR"]
        richest[bic] = max(euros, key=lambda one: abs(int(one.balance_minor))).code
    for bic, other in zip(BANKS, (*BANKS[1:], BANKS[0]), strict=True):
        payment = {**order(other, richest[other]), "debtor_account": richest[bic]}
        await desks[bic].ask_raw("POST", "/payments", json=payment)

        async def is_posted(desk: BankDesk = desks[bic], number: str = payment["id"]) -> bool:
            return (await desk.payment(number)).status == "posted"

        await wait_for(is_posted)


async def test_a_rulebook_of_before_is_refused_by_what_it_lacks(house: House) -> None:
    coordinator = house.nodes[COORDINATOR]
    await migrate(house.databases[COORDINATOR], PACKAGES["coordinator"])
    with pytest.raises(ProcessError, match=r"rulebook\.json: .*exposure"):
        await asyncio.to_thread(
            run, "coordinator", "serve", environ=coordinator.environment, log=house.directory / "commands.log"
        )


async def test_a_database_of_a_later_release_is_left_alone(new_database: NewDatabase) -> None:
    for package in PACKAGES.values():
        url = await new_database(package)
        connection = await asyncpg.connect(dsn(url))
        await connection.execute("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(PostgresError, match="revision 9999, made by a later release"):
            await migrate(url, package)
        assert await connection.fetchval("SELECT version_num FROM alembic_version") == "9999"
        await connection.close()


async def test_a_coordinator_of_before_is_named_as_what_it_is() -> None:
    """It has no operation that confirms a trust list."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    key = SigningKey.generate()
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with FederationClient("ALDRXXA0", key, url) as client:
            trust = TrustStore(Anchor.of(COORDINATOR, key.verifying_key))
            with pytest.raises(TrustError, match="of an earlier release, and is to be upgraded first"):
                await trust.refresh(client)


async def test_everything_goes_on_where_it_was(house: House) -> None:
    set_exposure(house.directory / "rulebook.json")
    await house.start(COORDINATOR)
    await house.start(AGENT, *BANKS)
    await house.prove()
    alice, bob, carol = (house.operator(name) for name in ("alice", "bob", "carol"))
    desks = {bic: house.desk(bic) for bic in BANKS}

    # What was held is released by two people, what was queued or killed arrives, the dispute can be withdrawn.
    opinion = {"decision": "release", "reason": "another person of that name"}
    for name in ("dora", "egon"):
        path = f"/holds/{HELD}/decisions"
        await house.staff("CEDRXXC0", name, Role.SCREENING).ask("POST", path, PaymentView, json=opinion)

    async def nothing_waits() -> bool:
        reserved = [account for desk in desks.values() for account in await desk.accounts("reserved")]
        return not any(int(account.balance_minor) for account in reserved)

    # (The bank it was released to screens it, too.)
    for name in ("dora", "egon"):
        person = house.staff("BRCHXXB0", name, Role.SCREENING)

        async def is_held(person: Staff = person) -> bool:
            return HELD in {held.id for held in await person.ask("GET", "/holds", list[PaymentView])}

        await wait_for(is_held)
        await person.ask("POST", f"/holds/{HELD}/decisions", PaymentView, json=opinion)
    await wait_for(nothing_waits)
    assert (await desks["CEDRXXC0"].payment(HELD)).status == "posted"
    assert (await desks["ALDRXXA0"].payment(DISPUTED)).status == "disputed"
    assert (await desks["ALDRXXA0"].withdraw_dispute(DISPUTED)).status == "accepted"

    opened_before = await clear(alice, bob, desks)
    await pay_around(desks)
    opened_since = await clear(alice, bob, desks)

    listed = await alice.ask("GET", "/cycles", dict[str, msgspec.Raw])
    cycles = [one["cycle"]["id"] for one in msgspec.json.decode(listed["items"])]
    anchor = Anchor.read(house.directory / "trust-anchor.json")
    reports = {}
    for cycle in (one for one in cycles if one <= opened_since):
        report = verify_bytes(await carol.export(cycle), anchor)
        reports[cycle] = report.state
    assert reports == dict.fromkeys(reports, "final")
    assert len(reports) == 4
    assert opened_before in reports

    codes = await asyncio.to_thread(house.supervisor.stop)
    assert codes == dict.fromkeys(codes, 0)
    await house.prove()
