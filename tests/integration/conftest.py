"""Fixtures of the integration tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from clearing_house import AGENT, BANKS, COORDINATOR, Books, Clock, House, NewHouse, rulebook
from running_banks import Town, running_town

from gateway.agent.ledger import Ledger
from gateway.coordinator.app import own_application
from gateway.coordinator.registry.registry import Registry
from gateway.coordinator.rulebook import Rulebook
from gateway.federation.http.client import MemberIdentity
from gateway.federation.settings import NodeSettings
from gateway.federation.storage.database import asyncpg_pool, create_engine


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """Three banks beside a coordinator, one town for a module: its tests use payments and accounts of their own."""
    async with running_town(postgres_url, tmp_path_factory.mktemp("town")) as running:
        yield running


@pytest.fixture
async def new_house(new_database: Any, tmp_path: Path) -> AsyncIterator[NewHouse]:
    """A factory of clearing houses with four banks, funded settlement accounts and no payments yet."""
    opened: list[Any] = []

    async def make(
        rules: Rulebook | None = None, *, caps: dict[str, dict[str, int]] | None = None, funds: int = 10**9
    ) -> House:
        rules = rules or rulebook()
        engine = create_engine(await new_database("gateway.coordinator"))
        pool = await asyncpg_pool(await new_database("gateway.agent"))
        opened.extend((engine, pool))
        MemberIdentity.made(COORDINATOR, tmp_path / COORDINATOR)
        identity = MemberIdentity.of_coordinator(COORDINATOR, tmp_path / COORDINATOR)
        settings = NodeSettings(bic=COORDINATOR, url="http://127.0.0.1:9", port=9, data_dir=tmp_path / COORDINATOR)
        registry = Registry(engine, signer=identity.sign, issuer=settings.url, rulebook=rules)
        await registry.initialise(own_application(settings, identity, "Clearing house"))
        books = Books(Ledger(pool, AGENT), coordinator=identity, signer=MemberIdentity.made(AGENT, tmp_path / AGENT))
        house = House(engine, registry, Clock(), books, identity, rules, tmp_path)
        books.now = house.clock
        await house.let_in("alice", "bob", "carol")
        await house.admit_agent()
        for bank in BANKS:
            await house.admit(bank, caps_minor=(caps or {}).get(bank))
        await house.books.open(BANKS, rules.currencies, funds)
        return house

    yield make
    engine, pool = (opened[-2], opened[-1]) if opened else (None, None)
    if engine is not None and pool is not None:
        await engine.dispose()
        await pool.close()
