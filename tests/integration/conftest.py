"""Fixtures of the integration tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from running_banks import Town, running_town


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """Three banks beside a coordinator, one town for a module: its tests use payments and accounts of their own."""
    async with running_town(postgres_url, tmp_path_factory.mktemp("town")) as running:
        yield running
