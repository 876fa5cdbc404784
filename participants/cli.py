"""`concordat participant …`: set up, run and look after a bank's node."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.federation.commands.group import group
from participants.intake import cli as intake
from participants.ledger import DATABASE, MIGRATIONS

if TYPE_CHECKING:
    from gateway.federation.settings import NodeSettings

app = group("participant", "A bank's node.")

intake.register(app)


@app.command()
def init(
    name: Annotated[str, typer.Option(help="The bank's name.")],
    agent: Annotated[str | None, typer.Option(help="The settlement agent's BIC.")] = None,
    account: Annotated[str | None, typer.Option(help="The bank's account at the settlement agent.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write the application (standard output if absent).")
    ] = None,
) -> None:
    """Make the bank's keys and print its signed application for membership."""
    from gateway.federation.membership.documents import SettlementAccount
    from gateway.federation.membership.institution import application

    settings = _settings()
    settlement = None if agent is None else SettlementAccount(agent=agent, account=account or settings.bic)
    text = application(settings, name, settlement)
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text)


@app.command()
def serve() -> None:
    """Run the bank's node until it is told to stop. Brings its database up to date first."""
    from gateway.federation.http.serve import run
    from gateway.federation.storage.database import migrate
    from gateway.federation.storage.postgres import database
    from participants.api.app import bank_app

    settings = _settings()
    with database(settings, DATABASE) as url:
        asyncio.run(migrate(url, MIGRATIONS))
        run(bank_app(settings, url), host=settings.host, port=settings.port, log_level=settings.log_level)


@app.command()
def token(
    subject: Annotated[str, typer.Option("--subject", help="Who of the bank's staff is asking.")] = "operations",
) -> None:
    """Print an access token for a member of the bank's own staff, good for five minutes."""
    from gateway.federation.membership.institution import staff_token

    typer.echo(staff_token(_settings(), subject))


@app.command()
def fsck() -> None:
    """Prove the ledger from its journal: every balance, lane and queue recomputed. Exit code 1 if anything differs."""
    from participants.audit.command import run_fsck

    raise typer.Exit(run_fsck(_settings()))


@app.command()
def proof(cycle: Annotated[str, typer.Argument(help="The cycle's id.")]) -> None:
    """Print what the coordinator showed this bank of a cycle's result, as signed; exit code 1 if it isn't believed."""
    from participants.audit.proof import run_proof

    raise typer.Exit(run_proof(_settings(), cycle))


def _settings() -> NodeSettings:
    from gateway.federation.settings import NodeSettings

    return NodeSettings.from_env()
