"""The federation of the demonstration: its institutions, their processes and databases, and the people's desks."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from compliance.crypto.keys import SigningKey, VerifyingKey
from compliance.statements import ActKind
from compliance.trust import Anchor
from gateway.coordinator import rulebook
from gateway.demo.desks import AgentDesk, BankDesk, Operator, Person
from gateway.demo.names import BANKS, LISTED
from gateway.demo.plan import Plan
from gateway.demo.processes import Node, Supervisor, free_ports, run
from gateway.federation.messages.proposals import Decision
from gateway.federation.storage.postgres import EmbeddedServer, dsn

COORDINATOR_BIC = "CNCDXXC0"
AGENT_BIC = "CNCDXXS0"
# All institutions share one server here, and have a database each; every pool fits in with room to spare.
POSTGRES = {"max_connections": "400", "shared_buffers": "256MB", "max_wal_size": "4GB"}
COMMANDS_AT_ONCE = 3
NO_LIMIT_MINOR = "9" * 18
OPERATORS = ("alice", "bob")
AUDITOR = "carol"


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the clearing house waits before its rules go on without somebody."""

    cut_deadline_s: int = 60
    # A bank answers in a second; this is what the cycle with the break waits for.
    attestation_deadline_s: int = 12
    settlement_retry_s: int = 2
    settlement_attempts_max: int = 30


@dataclass(frozen=True, slots=True)
class Institution:
    """A member with its own directory, database and process."""

    bic: str
    name: str
    command: str
    directory: Path
    database: str
    url: str
    environment: dict[str, str]
    node: Node

    def key(self, use: str) -> SigningKey:
        """Return one of the institution's private keys, as its own people may."""
        return SigningKey.load(self.directory / "keys" / f"{use}.pem")


class Federation:
    """Everybody who takes part in the day: `set_up` once, then use the desks, then `stop`."""

    alice: Operator
    bob: Operator
    carol: Operator
    desks: dict[str, BankDesk]
    agent_desk: AgentDesk

    def __init__(
        self,
        directory: Path,
        plan: Plan,
        *,
        pace: Pace = Pace(),
        postgres: Mapping[str, str] = POSTGRES,
    ) -> None:
        self.directory = directory
        self.plan = plan
        self.pace = pace
        self.supervisor = Supervisor(directory / "logs")
        self.server = EmbeddedServer(directory / "postgres", options=postgres)
        self.anchor = directory / "trust-anchor.json"
        self.rulebook = directory / "rulebook.json"
        self.sanctions = directory / "sanctions.csv"
        self.commands_log = directory / "logs" / "commands.log"
        self._commands = asyncio.Semaphore(COMMANDS_AT_ONCE)
        self._people: list[Person] = []
        # A public one and a private one for each.
        ports = iter(free_ports(2 * (2 + len(plan.banks))))
        names = dict(BANKS)
        self.coordinator_url = self.url_of("coordinator", port := next(ports))
        private_port = next(ports)
        self.coordinator = self._institution(
            "coordinator", COORDINATOR_BIC, "Concordat Clearing House", port, private_port
        )
        self.agent = self._institution("agent", AGENT_BIC, "Settlement Agent", next(ports), next(ports))
        self.banks = {
            bic: self._institution("participant", bic, names.get(bic, f"Bank {bic}"), next(ports), next(ports))
            for bic in plan.banks
        }

    def _institution(self, command: str, bic: str, name: str, port: int, private_port: int) -> Institution:
        label = command if command != "participant" else bic
        home = self.directory / (command if command != "participant" else f"banks/{bic}")
        home.mkdir(parents=True, exist_ok=True)
        database = f"{command}_{bic.lower()}"
        environment = {
            "CONCORDAT_BIC": bic,
            "CONCORDAT_URL": self.url_of(label, port),
            "CONCORDAT_HOST": "127.0.0.1",
            "CONCORDAT_PORT": str(port),
            "CONCORDAT_PRIVATE_PORT": str(private_port),
            "CONCORDAT_DATA_DIR": str(home),
            "CONCORDAT_DATABASE_URL": dsn(self.database_url(label, database)),
            "CONCORDAT_ANCHOR": str(self.anchor),
            "CONCORDAT_COORDINATOR_URL": self.coordinator_url,
            "CONCORDAT_RULEBOOK": str(self.rulebook),
            "CONCORDAT_LOG_LEVEL": "info",
        }
        url = environment["CONCORDAT_URL"]
        node = self.supervisor.add(label, (command, "serve"), environment, f"http://127.0.0.1:{port}")
        return Institution(bic, name, command, home, database, url, environment, node)

    # --- where things are ------------------------------------------------------------------------------

    def url_of(self, label: str, port: int) -> str:  # noqa: ARG002
        """Return the address under which everybody calls an institution that listens on a port."""
        return f"http://127.0.0.1:{port}"

    def database_url(self, label: str, database: str) -> str:  # noqa: ARG002
        """Return where an institution's node finds its database."""
        return self.server.own_url(database)

    async def start_databases(self) -> None:
        """Start what the databases are on, and create them."""
        await asyncio.to_thread(self.server.start)
        for institution in self.institutions:
            await asyncio.to_thread(self.server.open_for, institution.database)

    @property
    def institutions(self) -> list[Institution]:
        return [self.coordinator, self.agent, *self.banks.values()]

    async def command(self, institution: Institution, *arguments: str) -> str:
        """Run a command in an institution's name and return what it printed. Raises ProcessError."""
        async with self._commands:
            return await asyncio.to_thread(run, *arguments, environ=institution.environment, log=self.commands_log)

    # --- setting up ------------------------------------------------------------------------------------

    async def set_up(self, tell: Callable[[str], None]) -> None:
        """Create databases and keys, register everybody, start every process and open every account."""
        await self.start_databases()
        tell(f"PostgreSQL runs, with a database of its own for each of {len(self.institutions)} institutions")
        write_rulebook(self.rulebook, self.plan.currencies, self.pace)
        write_sanctions_list(self.sanctions)
        await self._set_up_coordinator()
        tell("keys are made, the trust anchor is handed out, the clearing house is founded")
        await self._start(self.coordinator)
        await self._register()
        tell(f"{len(self.banks)} banks have applied; one operator proposed to take them in, another confirmed")
        await self._start(self.agent, *self.banks.values())
        tell(f"{len(self.institutions)} processes are ready")
        await self._open_accounts()
        accounts = sum(map(len, self.plan.accounts.values()))
        tell(f"{accounts:,} customer accounts are open, settlement accounts funded, a sanctions list imported")

    async def _set_up_coordinator(self) -> None:
        """Found the clearing house, and enter in its registry what doesn't come over HTTP."""
        for name in (*OPERATORS, AUDITOR):
            SigningKey.load_or_create(self._client_key(name))
        await self.command(self.coordinator, "coordinator", "init", "--name", self.coordinator.name)
        # First the anchor: it names the scheme that an application is signed for.
        await self.command(self.coordinator, "coordinator", "anchor", "--out", str(self.anchor))
        application = str(_application(self.agent))
        await self.command(self.agent, "agent", "init", "--name", self.agent.name, "--out", application)
        await asyncio.gather(
            self.command(self.coordinator, "coordinator", "add-agent", str(_application(self.agent))),
            *(self._let_in(name, "operator") for name in OPERATORS),
            self._let_in(AUDITOR, "auditor"),
        )

    async def _let_in(self, name: str, role: str) -> None:
        key = SigningKey.load(self._client_key(name))
        await self.command(self.coordinator, "coordinator", "add-operator", name, "--role", role, "--key", key.x)

    def _client_key(self, name: str) -> Path:
        return self.directory / "operators" / name / "auth.pem"

    async def _start(self, *institutions: Institution) -> None:
        nodes = [institution.node for institution in institutions]
        for node in nodes:
            node.start()
        await asyncio.to_thread(self.supervisor.wait_ready, *nodes)

    async def _register(self) -> None:
        """Let every bank apply over HTTP, by invitation; one operator proposes to take it in, the other confirms."""
        self.alice, self.bob, self.carol = (
            Operator(self.coordinator.bic, self.coordinator.url, name, SigningKey.load(self._client_key(name)))
            for name in (*OPERATORS, AUDITOR)
        )
        self._people += [self.alice, self.bob, self.carol]
        codes = {bic: await self.alice.invite(bic, "wants to clear") for bic in self.banks}
        described = {
            bic: ("--name", bank.name, "--agent", AGENT_BIC, "--account", f"{bic}-SETTLEMENT")
            for bic, bank in self.banks.items()
        }
        await asyncio.gather(
            *(
                self.command(
                    bank, "participant", "init", *described[bic], "--out", str(bank.directory / "application.json")
                )
                for bic, bank in self.banks.items()
            )
        )
        await asyncio.gather(
            *(
                self.command(bank, "participant", "apply", "--name", bank.name, "--agent", AGENT_BIC,
                             "--account", f"{bank.bic}-SETTLEMENT", "--invitation", codes[bank.bic])
                for bank in self.banks.values()
            )
        )  # fmt: skip
        for bank in self.banks.values():
            await self._decided(ActKind.MEMBER_APPROVE, bank.bic, "application checked")
            for currency, liquidity in self.plan.liquidity(bank.bic).items():
                cap = {"currency": currency, "cap_minor": str(max(liquidity, 1))}
                await self._decided(ActKind.CAP, bank.bic, "liquidity at the settlement agent", **cap)
            await self._decided(ActKind.MEMBER_ACTIVATE, bank.bic, "ready to clear")

    async def _decided(self, kind: ActKind, subject: str, reason: str, **terms: str) -> None:
        """Let one operator propose a change of the registry, and another confirm it."""
        proposal = await self.alice.propose_act(kind, subject, reason, **terms)
        await self.bob.decide(proposal, Decision(decision="confirm", reason="seen, too"))

    async def _open_accounts(self) -> None:
        self.desks = {
            bic: BankDesk(bic, bank.url, bank.key("token"), "back-office") for bic, bank in self.banks.items()
        }
        self.agent_desk = AgentDesk(self.agent.bic, self.agent.url, self.agent.key("token"), "desk")
        self._people += [*self.desks.values(), self.agent_desk]
        for bic in self.banks:
            for currency, liquidity in self.plan.liquidity(bic).items():
                await self.agent_desk.open_account(bic, currency)
                await self.agent_desk.fund(bic, currency, liquidity)
        await asyncio.gather(
            *(desk.open_accounts(self.plan.accounts[bic]) for bic, desk in self.desks.items()),
            *(desk.import_list("demo", self.sanctions) for desk in self.desks.values()),
        )

    # --- during the day --------------------------------------------------------------------------------

    async def kill(self, bic: str) -> None:
        """Kill a bank's process as a power cut does."""
        await asyncio.to_thread(self.banks[bic].node.kill)

    async def restart(self, bic: str) -> None:
        """Start a bank again and return when it is ready."""
        await self._start(self.banks[bic])

    def require_running(self) -> None:
        """Raise ProcessError if a process has ended by itself."""
        for institution in self.institutions:
            institution.node.require_running()

    def anchor_keys(self) -> dict[str, VerifyingKey]:
        """Return the keys that everybody trusts without proof: the coordinator's."""
        return Anchor.read(self.anchor).verifying_keys()

    # --- the end ---------------------------------------------------------------------------------------

    async def stop(self) -> dict[str, int | None]:
        """Close the desks, stop every process and return the exit codes. The database server goes on."""
        for person in self._people:
            await person.close()
        return await asyncio.to_thread(self.supervisor.stop)


def write_rulebook(path: Path, currencies: tuple[str, ...], pace: Pace) -> None:
    """Write the scheme's rulebook for a day at a pace of its own: cycles on demand, short deadlines."""
    built_in = rulebook.load()
    cleared = tuple(sorted({*built_in.currencies, *currencies}))
    # The day is planned, and its payments are to be taken: however large, no default limit declines any.
    defaults = dict.fromkeys(cleared, NO_LIMIT_MINOR)
    rules = msgspec.structs.replace(
        built_in,
        version=f"{built_in.version}-demo",
        currencies=cleared,
        calendar="every_day",
        settlement_systems={},
        slots=(),
        cut_deadline_s=pace.cut_deadline_s,
        attestation_deadline_s=pace.attestation_deadline_s,
        settlement=msgspec.structs.replace(
            built_in.settlement, retry_interval_s=pace.settlement_retry_s, attempts_max=pace.settlement_attempts_max
        ),
        exposure=rulebook.ExposureRule(default_minor=defaults),
    )
    path.write_bytes(msgspec.json.format(msgspec.json.encode(rulebook.checked(rules))))


def write_sanctions_list(path: Path) -> None:
    """Write the invented sanctions list as a CSV in the one-file layout."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("uid", "name", "type", "programs", "alternate_names"))
        for number, (name, kind, aliases) in enumerate(LISTED, start=1):
            writer.writerow((number, name, kind, "DEMO", "; ".join(aliases)))


def _application(institution: Institution) -> Path:
    return institution.directory / "application.json"
