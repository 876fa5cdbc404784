"""The federation of the demonstration, made to be broken: a server for each institution, and a door before everything.

The coordinator and one bank run as two processes each where asked for, two banks run a program that can lie.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from compliance.crypto.keys import SigningKey
from gateway.demo.desks import AgentDesk, BankDesk
from gateway.demo.federation import Pace
from gateway.demo.plan import Plan
from gateway.demo.processes import Node, free_ports
from tests.chaos.databases import PASSWORD, Database, template
from tests.chaos.network import Door
from tests.chaos.replicas import ReplicatedFederation

CLIENT_TIMEOUT_S = 8
NOTICE_EVERY_S = 0.25
LIAR = "tests.chaos.liar"


class ChaosFederation(ReplicatedFederation):
    """`set_up`, then break and heal what is named by "coordinator", "agent" or a bank's BIC, then `stop`."""

    def __init__(
        self, directory: Path, plan: Plan, *, deadline_s: int, liars: Sequence[str] = (), doubles: Sequence[str] = ()
    ) -> None:
        self.liars = tuple(liars)
        self.database_doors: dict[str, Door] = {}
        self.databases: dict[str, Database] = {}
        self.lies = directory / "lies"
        self.lies.mkdir(parents=True, exist_ok=True)
        pace = Pace(
            cut_deadline_s=deadline_s,
            attestation_deadline_s=deadline_s,
            settlement_retry_s=2,
            settlement_attempts_max=100,
        )
        super().__init__(directory, plan, doubles=doubles, pace=pace)
        for bic in liars:
            for node in self.nodes[bic]:
                node.program = LIAR
            self.banks[bic].environment.update(CHAOS_LIE=str(self.lies / bic), CHAOS_PEERS=" ".join(plan.banks))
        self.ended_by_itself: list[str] = []
        self._restarts_wanted: set[str] = set()
        self._keeper: asyncio.Task[None] | None = None

    # --- where things are ------------------------------------------------------------------------------

    def database_url(self, label: str, database: str) -> str:
        (door_port,) = free_ports(1)
        self.databases[label] = Database(self.directory / "postgres" / label, database)
        self.database_doors[label] = Door(self.network, label, door_port, [self.databases[label].backend])
        return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{door_port}/{database}"

    async def start_databases(self) -> None:
        initialised = await template(self.directory / "postgres" / "template")
        await asyncio.gather(*(database.create(initialised) for database in self.databases.values()))

    # --- setting up and taking down --------------------------------------------------------------------

    async def set_up(self, tell: Callable[[str], None]) -> None:
        await super().set_up(tell)
        for bic, bank in self.banks.items():
            await self.desks[bic].close()
            self.desks[bic] = BankDesk(bic, bank.url, bank.key("token"), "back-office", timeout_s=CLIENT_TIMEOUT_S)
        await self.agent_desk.close()
        self.agent_desk = AgentDesk(
            self.agent.bic, self.agent.url, self.agent.key("token"), "desk", timeout_s=CLIENT_TIMEOUT_S
        )
        self._people += [*self.desks.values(), self.agent_desk]
        await self.start_replicas()
        self._keeper = asyncio.create_task(self._restart_what_ends())

    async def stop(self) -> dict[str, int | None]:
        if self._keeper is not None:
            self._keeper.cancel()
        return await super().stop()

    async def stop_databases(self) -> None:
        await asyncio.gather(*(database.stop() for database in self.databases.values()))

    # --- processes -------------------------------------------------------------------------------------

    async def start_nodes(self, *nodes: Node) -> None:
        """Start processes that aren't running, without waiting until they are ready."""
        for node in nodes:
            if not node.running:
                await asyncio.to_thread(node.start)

    async def _restart_what_ends(self) -> None:
        """Begin again what ends by itself, as an init system does, and remember it."""
        while True:
            await asyncio.sleep(NOTICE_EVERY_S)
            for node in self.supervisor.nodes:
                if node.process is not None and not node.running and not node.killed:
                    self.ended_by_itself.append(f"{node.name} ended with code {node.process.returncode}")
                    await asyncio.sleep(1)
                    await self.start_nodes(node)

    def operator_key(self, name: str) -> SigningKey:
        return SigningKey.load(self._client_key(name))

    def lie(self, bic: str, how: str) -> None:
        """Let a liar lie from its next cut on, or (empty) be honest again."""
        (self.lies / bic).write_text(how, "ascii")

    def logs(self, name: str) -> str:
        return "\n".join(f"--- {node.name}\n{node.log_tail()}" for node in self.nodes[name])
