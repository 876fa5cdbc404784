"""The demonstration's federation with a door before every institution, and a second node behind it where asked for."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gateway.demo.federation import POSTGRES, Federation, Institution, Pace
from gateway.demo.plan import Plan
from gateway.demo.processes import free_ports
from tests.chaos.network import Backend, Door, Network

COORDINATOR, AGENT = "coordinator", "agent"


class ReplicatedFederation(Federation):
    """Each of `doubles` ("coordinator", "agent" or a bank's BIC) runs as two processes on one database, if wanted."""

    def __init__(
        self,
        directory: Path,
        plan: Plan,
        *,
        doubles: Sequence[str],
        pace: Pace = Pace(),
        postgres: Mapping[str, str] = POSTGRES,
    ) -> None:
        self.network = Network(self._pids)
        self.doors: dict[str, Door] = {}
        super().__init__(directory, plan, pace=pace, postgres=postgres)
        self.nodes = {name: [institution.node] for name, institution in self.named.items()}
        self._add_replicas(doubles)

    @property
    def named(self) -> dict[str, Institution]:
        return {COORDINATOR: self.coordinator, AGENT: self.agent, **self.banks}

    def url_of(self, label: str, port: int) -> str:
        if label not in self.doors:
            self.doors[label] = Door(self.network, label, *free_ports(1), [Backend(port)])
        return f"http://127.0.0.1:{self.doors[label].port}"

    def _add_replicas(self, doubles: Sequence[str]) -> None:
        for name in doubles:
            institution = self.named[name]
            port, private_port = free_ports(2)
            home = institution.directory.with_name(f"{institution.directory.name}-2")
            environment = {
                **institution.environment,
                "CONCORDAT_PORT": str(port),
                "CONCORDAT_PRIVATE_PORT": str(private_port),
                "CONCORDAT_DATA_DIR": str(home),
            }
            node = self.supervisor.add(f"{name}-2", institution.node.arguments, environment, f"http://127.0.0.1:{port}")
            self.nodes[name].append(node)
            self.doors[name].backends.append(Backend(port))

    def _pids(self) -> Mapping[int, str]:
        return {
            node.process.pid: name
            for name, nodes in self.nodes.items()
            for node in nodes
            if node.process is not None and node.running
        }

    async def set_up(self, tell: Callable[[str], None]) -> None:
        for door in self.network.doors:
            await door.start()
        await super().set_up(tell)

    async def start_replicas(self) -> None:
        """Start the second nodes, with copies of the first ones' keys, and return when they are ready."""
        replicas = [(name, node) for name, nodes in self.nodes.items() for node in nodes[1:]]
        for name, node in replicas:
            home = Path(node.environment["CONCORDAT_DATA_DIR"])
            await asyncio.to_thread(shutil.copytree, self.named[name].directory / "keys", home / "keys")
            node.start()
        await asyncio.to_thread(self.supervisor.wait_ready, *(node for _, node in replicas))

    async def stop(self) -> dict[str, int | None]:
        codes = await super().stop()
        for door in self.network.doors:
            await door.stop()
        return codes
