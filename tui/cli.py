"""The command `concordat console`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.federation.commands.client_options import ClientKey, ClientName, CoordinatorBic, CoordinatorUrl


def console(
    coordinator: CoordinatorUrl,
    coordinator_bic: CoordinatorBic,
    client: ClientName,
    key: ClientKey,
    operate: Annotated[
        bool, typer.Option("--operate", help="Allow actions; without it the console only reads.")
    ] = False,
    environment: Annotated[
        str, typer.Option(envvar="CONCORDAT_ENVIRONMENT", help="Shown in the banner: production, test, demo …")
    ] = "test",
    log: Annotated[
        Path | None,
        typer.Option(envvar="CONCORDAT_CONSOLE_LOG", help="Session log; by default in the state directory."),
    ] = None,
    export_dir: Annotated[Path, typer.Option(help="Where exports are written.")] = Path(),
) -> None:
    """Watch the clearing house live and, with --operate, run it."""
    # Imported here, so that the other commands don't wait for Textual.
    from compliance.crypto.keys import SigningKey
    from tui.run import Settings, run

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        typer.echo("concordat: the console needs a terminal; `concordat decide` works without one", err=True)
        raise typer.Exit(2)
    try:
        signing_key = SigningKey.load(key)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--key") from error
    settings = Settings(
        coordinator_url=coordinator,
        coordinator_bic=coordinator_bic,
        client=client,
        environment=environment,
        operate=operate,
        log=log,
        export_directory=export_dir,
    )
    asyncio.run(run(settings, signing_key))


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(console)
