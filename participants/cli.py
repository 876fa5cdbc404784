"""`concordat participant …`: set up, run and look after a bank's node."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.federation.commands.failures import explained
from gateway.federation.commands.group import group
from participants import payment_list
from participants.access import cli as access
from participants.archive import cli as archive
from participants.intake import cli as intake
from participants.ledger import DATABASE, MIGRATIONS
from participants.reconciliation import cli as reconciliation
from participants.roles import Role, Scope
from participants.webhooks import cli as webhooks

if TYPE_CHECKING:
    from gateway.federation.settings import NodeSettings

app = group("participant", "A bank's node.")

intake.register(app)
payment_list.register(app)
app.add_typer(access.app)
webhooks.register(app)
archive.register(app)
reconciliation.register(app)


def _cycle_id(text: str) -> str:
    import re

    from compliance.statements import CYCLE_PATTERN

    if not re.fullmatch(CYCLE_PATTERN, text):
        raise typer.BadParameter(f"{text!a} is no cycle's id, as in 2026-03-02-01")
    return text


_Cycle = Annotated[str, typer.Argument(help="The cycle's id.", callback=_cycle_id)]
_Name = Annotated[str, typer.Option(help="The bank's name.")]
_Agent = Annotated[str | None, typer.Option(help="The settlement agent's BIC.")]
_Account = Annotated[str | None, typer.Option(help="The bank's account at the settlement agent.")]


@app.command()
def init(
    name: _Name,
    agent: _Agent = None,
    account: _Account = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write the application (standard output if absent).")
    ] = None,
) -> None:
    """Make the bank's keys and print its signed application for membership.

    Run again, it makes the keys that are missing, as those of a later release, and leaves the others.
    """
    from gateway.federation.http.client import MemberIdentity
    from participants.webhooks.signing import WebhookSecrets

    settings = _settings()
    MemberIdentity.made(settings.bic, settings.keys_dir)
    WebhookSecrets(settings.keys_dir).make_key()
    text = _application(name, agent, account)
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text)


@app.command()
def apply(
    name: _Name,
    invitation: Annotated[str, typer.Option(help="The code that the clearing house gave out for this BIC.")],
    agent: _Agent = None,
    account: _Account = None,
) -> None:
    """Send the bank's signed application, once it has keys, to the coordinator. Shows its key ids, to compare there."""
    import msgspec

    from gateway.federation.http.client import FederationClient, MemberIdentity, RemoteError
    from gateway.federation.messages.participants import ParticipantView

    settings = _settings()
    if settings.coordinator_url is None:
        raise typer.BadParameter("CONCORDAT_COORDINATOR_URL: expected the coordinator's base URL, found nothing")
    url = settings.coordinator_url
    content = _application(name, agent, account, invitation).encode()
    auth = MemberIdentity(settings.bic, settings.keys_dir).auth

    async def send() -> ParticipantView:
        async with FederationClient(settings.bic, auth, url) as client:
            headers = {"Content-Type": "application/json"}
            answer = await client.request(
                "POST", f"{url}/participants", audience=None, content=content, headers=headers
            )
            return msgspec.json.decode(answer.content, type=ParticipantView)

    try:
        view = asyncio.run(send())
    except RemoteError as error:
        typer.echo(f"refused: {explained(error)}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{view.bic} ({view.name}) has applied with these keys:")
    for key in view.keys:
        if key.status == "active":
            typer.echo(f"  {key.use:<5} {key.kid}")


@app.command()
def serve() -> None:
    """Run the bank's node until it is told to stop. Brings its database up to date first."""
    from gateway.federation.commands import serving
    from participants.api.app import bank_app

    settings = _settings()
    serving.serve(settings, database=DATABASE, package=MIGRATIONS, build=lambda url: bank_app(settings, url))


@app.command()
def token(
    role: Annotated[Role, typer.Option(help="What the person is to do.", case_sensitive=False)],
    subject: Annotated[str, typer.Option("--subject", help="Who it is: this name is recorded, and is one of two.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="With `--role read`: the books that may be read, all of them if absent; repeat for several."),
    ] = None,
) -> None:
    """Print an access token for one of the bank's own people, good for five minutes.

    `orders` pays, returns and contests; `screening` decides on held payments; `lists` imports sanctions lists;
    `accounts` opens, blocks and closes accounts and makes entries; `events` hears what happens in the books, for the
    bank's core system; `read` reads the books and changes nothing, for the bank's auditors and its regulator.
    """
    from gateway.federation.membership.institution import staff_token

    if scope and role is not Role.READ:
        raise typer.BadParameter("only a token of the role read has a scope", param_hint="--scope")
    typer.echo(staff_token(_settings(), subject, role, scope=" ".join(scope or ())))


@app.command()
def fsck() -> None:
    """Prove the ledger from its journal: every balance, lane and queue recomputed. Exit code 1 if anything differs."""
    from participants.audit.command import run_fsck

    raise typer.Exit(run_fsck(_settings()))


@app.command()
def proof(cycle: _Cycle) -> None:
    """Print what the coordinator showed this bank of a cycle's result, as signed; exit code 1 if it isn't believed."""
    from participants.audit.proof import run_proof

    raise typer.Exit(run_proof(_settings(), cycle))


@app.command()
def position(
    cycle: _Cycle,
    counterparty: Annotated[str, typer.Argument(help="The other bank of the pair, by its BIC.")],
    currency: Annotated[str, typer.Argument(help="The currency.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write it; <cycle>-<counterparty>-<currency>.json if absent.", dir_okay=False),
    ] = None,
) -> None:
    """Write the evidence for one pair of a cycle, which shows nothing of the others. `concordat verify` checks it.

    Once both banks agree it holds what the other one signed, too, as the coordinator shows it. Exit code 0: both
    banks' signatures are in the file; 3: only this bank's, or what both signed was there before and is left as it is;
    1: this bank attested nothing of the pair.
    """
    from participants.audit.position import run_position

    raise typer.Exit(run_position(_settings(), cycle, counterparty, currency, out))


def _application(name: str, agent: str | None, account: str | None, invitation: str | None = None) -> str:
    from gateway.federation.membership.documents import SettlementAccount
    from gateway.federation.membership.institution import application

    settings = _settings()
    settlement = None if agent is None else SettlementAccount(agent=agent, account=account or settings.bic)
    return application(settings, name, settlement, invitation=invitation)


def _settings() -> NodeSettings:
    from gateway.federation.settings import NodeSettings

    return NodeSettings.from_env()
