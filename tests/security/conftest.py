"""Fixtures of the attacks: the running nodes that the integration tests have too."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

sys.path.append(str(Path(__file__).parents[1] / "integration"))

if TYPE_CHECKING:
    from running_banks import Town


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """Three banks beside a coordinator, one town for a module: its tests use payments and accounts of their own."""
    from running_banks import running_town

    async with running_town(postgres_url, tmp_path_factory.mktemp("town")) as running:
        yield running
