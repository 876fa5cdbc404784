"""The three services, as far as their OpenAPI documents need them, and where the snapshots of those lie."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from litestar import Litestar

from compliance.crypto.keys import SigningKey
from compliance.trust import Anchor
from gateway.agent.app import build_app
from gateway.coordinator import app as coordinator
from gateway.coordinator import rulebook
from gateway.federation.http.client import MemberIdentity
from gateway.federation.settings import NodeSettings
from participants.api.app import bank_app

SNAPSHOTS = Path(__file__).parents[2] / "docs" / "reference" / "openapi"
# Nobody listens there: a document is made without database and network.
NOWHERE, NO_DATABASE = "http://127.0.0.1:9", "postgresql+asyncpg://localhost/none"


def _coordinator(settings: NodeSettings, database_url: str) -> Litestar:
    return coordinator.build(settings, database_url, rulebook.load(), name="Clearing house")


SERVICES: dict[str, tuple[str, Callable[[NodeSettings, str], Litestar]]] = {
    "participant": ("ALDRXXA0", bank_app),
    "coordinator": ("CNCDXXC0", _coordinator),
    "agent": ("CNCDXXS0", build_app),
}


async def served(app: Litestar) -> dict[str, Any]:
    """Return the document as the service gives it to anybody who asks."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=NOWHERE) as http:
        answer = await http.get("/schema/openapi.json")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def documents() -> dict[str, dict[str, Any]]:
    """Return the OpenAPI document of each service."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        anchor = directory / "anchor.json"
        Anchor.of("CNCDXXC0", SigningKey.generate().verifying_key).write(anchor)
        made = {}
        for service, (bic, build) in SERVICES.items():
            settings = NodeSettings(
                bic=bic, url=NOWHERE, data_dir=directory / service, anchor=anchor, coordinator_url=NOWHERE
            )
            MemberIdentity.made(settings.bic, settings.keys_dir)
            made[service] = asyncio.run(served(build(settings, NO_DATABASE)))
        return made


def text_of(document: dict[str, Any]) -> str:
    """Return a document as its snapshot has it."""
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def snapshot(service: str) -> Path:
    return SNAPSHOTS / f"{service}.json"
