"""`concordat participant …`: set up, run and look after a bank's node."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from participants import intake

if TYPE_CHECKING:
    from gateway.federation.settings import NodeSettings

app = typer.Typer(name="participant", help="A bank's node.", no_args_is_help=True)

DATABASE = "participant"
PACKAGE = "participants"

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
    import msgspec

    from compliance import dsse
    from gateway.federation.client import MemberIdentity
    from gateway.federation.membership import APPLICATION_TYPE, Application, OfferedKey, SettlementAccount

    settings = _settings()
    identity = MemberIdentity(settings.bic, settings.keys_dir)
    # The token key stays at home: the bank alone believes the tokens of its own people.
    _ = identity.token
    application = Application(
        bic=settings.bic,
        name=name,
        url=settings.url,
        keys=(OfferedKey(use="auth", x=identity.auth.x), OfferedKey(use="sign", x=identity.sign.x)),
        settlement=None if agent is None else SettlementAccount(agent=agent, account=account or settings.bic),
    )
    envelope = dsse.sign(application, identity.sign, payload_type=APPLICATION_TYPE)
    text = msgspec.json.format(msgspec.json.encode(envelope)).decode()
    if out is None:
        typer.echo(text)
    else:
        out.write_text(text + "\n")


@app.command()
def serve() -> None:
    """Run the bank's node until it is told to stop. Brings its database up to date first."""
    from gateway.federation.database import migrate
    from gateway.federation.postgres import database
    from gateway.federation.serve import run
    from participants.app import bank_app

    settings = _settings()
    with database(settings, DATABASE) as url:
        asyncio.run(migrate(url, PACKAGE))
        run(bank_app(settings, url), host=settings.host, port=settings.port, log_level=settings.log_level)


@app.command()
def token(
    subject: Annotated[str, typer.Option("--subject", help="Who of the bank's staff is asking.")] = "operations",
) -> None:
    """Print an access token for a member of the bank's own staff, good for five minutes."""
    from gateway.federation.client import MemberIdentity
    from gateway.federation.identity import issue_access_token

    settings = _settings()
    typer.echo(
        issue_access_token(
            key=MemberIdentity(settings.bic, settings.keys_dir).token,
            issuer=settings.url,
            subject=subject,
            audience=settings.bic,
            client_id=subject,
            role="staff",
        )
    )


@app.command()
def fsck() -> None:
    """Prove the ledger from its journal: every balance, lane and queue recomputed. Exit code 1 if anything differs."""
    from participants.fsck import run_fsck

    raise typer.Exit(run_fsck(_settings()))


def _settings() -> NodeSettings:
    from gateway.federation.settings import NodeSettings

    return NodeSettings.from_env()
