"""Puts the console together and runs it until the operator leaves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from compliance.crypto.keys import Signer, SigningKey
from gateway.federation.http.client import FederationClient
from gateway.federation.identity.deciding import DecidingKey
from tui.api import ConsoleApi
from tui.app import ConsoleApp, Options
from tui.journal import Journal, default_path


@dataclass(frozen=True)
class Settings:
    """What the command line and the environment say."""

    coordinator_url: str
    coordinator_bic: str
    client: str
    environment: str = "test"
    operate: bool = False
    log: Path | None = None
    export_directory: Path = Path()


def assemble(settings: Settings, client: FederationClient, key: Signer) -> ConsoleApp:
    """Make the console over a client, which the caller closes. `key` is the operator's own: it signs decisions."""
    api = ConsoleApi(client, coordinator_url=settings.coordinator_url, coordinator_bic=settings.coordinator_bic)
    options = Options(
        environment=settings.environment, operate=settings.operate, export_directory=settings.export_directory
    )
    deciding = DecidingKey(operator=settings.client, coordinator=settings.coordinator_bic, key=key)
    return ConsoleApp(api, deciding, Journal(settings.log or default_path(datetime.now(UTC))), options)


async def run(settings: Settings, key: SigningKey) -> None:
    """Show the console."""
    async with FederationClient(settings.client, key, settings.coordinator_url) as client:
        await assemble(settings, client, key).run_async()
