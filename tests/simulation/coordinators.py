"""A federation that may have two coordinators on one database, behind one address."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import asyncpg
from gates import Gate
from sqlalchemy.engine import make_url

from gateway.demo.federation import Pace
from gateway.demo.plan import Plan
from gateway.demo.processes import Node
from gateway.federation.storage.postgres import dsn
from tests.chaos.replicas import COORDINATOR, ReplicatedFederation

SECOND = "second_coordinator"
URL = "CONCORDAT_DATABASE_URL"


class TwoCoordinators(ReplicatedFederation):
    """The second one signs in to the database under a name of its own, so that it is known who stands at a gate."""

    def __init__(self, directory: Path, plan: Plan, *, pace: Pace, postgres: Mapping[str, str]) -> None:
        super().__init__(directory, plan, doubles=(COORDINATOR,), pace=pace, postgres=postgres)
        second = self.coordinators[1]
        database = make_url(second.environment[URL]).set(username=SECOND, password=SECOND)
        second.environment = {**second.environment, URL: database.render_as_string(hide_password=False)}

    @property
    def coordinators(self) -> list[Node]:
        return self.nodes[COORDINATOR]

    async def start_replicas(self) -> None:
        connection = await asyncpg.connect(dsn(self.server.url("postgres")))
        await connection.execute(f"CREATE ROLE {SECOND} SUPERUSER LOGIN PASSWORD '{SECOND}'")
        await connection.close()
        await super().start_replicas()

    async def coordinator_at(self, gate: Gate) -> Node:
        """Return the one of the two that stands at a gate in their database."""
        (login,) = await gate.logins()
        return self.coordinators[login == SECOND]

    async def start_coordinators(self) -> None:
        """Start the one that isn't running, and return when both are ready."""
        for node in self.coordinators:
            if not node.running:
                node.start()
        await asyncio.to_thread(self.supervisor.wait_ready, *self.coordinators)
