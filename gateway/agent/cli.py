"""`concordat agent …`: set up, run and look after a settlement agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar
from uuid import uuid4

import typer

from compliance.terminal import shown
from gateway.federation.commands.failures import explained
from gateway.federation.commands.group import group

if TYPE_CHECKING:
    from gateway.federation.http.client import FederationClient, MemberIdentity
    from gateway.federation.settings import NodeSettings

T = TypeVar("T")

app = group("agent", "The settlement agent: a simulated RTGS.")

DATABASE = "agent"
_SUBJECT = typer.Option("--subject", help="Who of the agent's staff is asking.")


@app.command()
def init(
    name: Annotated[str, typer.Option(help="The institution's name.")] = "Settlement agent",
    out: Annotated[
        Path | None, typer.Option(help="Where to write the application (standard output if absent).")
    ] = None,
) -> None:
    """Make the agent's keys and print its application for membership, for the coordinator's operator.

    Run again, it makes the keys that are missing and leaves the others.
    """
    from gateway.federation.http.client import MemberIdentity
    from gateway.federation.membership.institution import application

    settings = _settings()
    MemberIdentity.made(settings.bic, settings.keys_dir)
    text = application(settings, name)
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text)


@app.command()
def serve() -> None:
    """Run the agent until it is told to stop. Brings its database up to date first."""
    from gateway.agent.app import PACKAGE, build_app
    from gateway.federation.commands import serving

    settings = _settings()
    serving.serve(settings, database=DATABASE, package=PACKAGE, build=lambda url: build_app(settings, url))


@app.command()
def token(subject: Annotated[str, _SUBJECT] = "operations") -> None:
    """Print an access token for a member of the agent's staff, good for five minutes."""
    from gateway.federation.membership.institution import staff_token

    typer.echo(staff_token(_settings(), subject))


@app.command("open-account")
def open_account(
    participant: Annotated[str, typer.Argument(help="The participant's BIC.")],
    currency: Annotated[str, typer.Argument(help="ISO 4217 code.")],
    overdraft: Annotated[str, typer.Option(help="How far below zero it may go, as a decimal number.")] = "0",
    subject: Annotated[str, _SUBJECT] = "operations",
) -> None:
    """Open a participant's settlement account at the running agent."""
    from gateway.federation.messages.settlement import AccountOpening, SettlementAccountView

    settings = _settings()
    opening = AccountOpening(
        participant=participant, currency=currency, overdraft_limit_minor=str(_minor(overdraft, currency))
    )

    async def ask(client: FederationClient) -> SettlementAccountView:
        return await client.post(
            f"{settings.url}/accounts", SettlementAccountView, audience=settings.bic, json=opening, idempotent=True
        )

    account = _ask(settings, subject, ask)
    typer.echo(f"{account.participant} {account.currency}: {_readable(account.balance_minor, currency)}")


@app.command()
def fund(
    participant: Annotated[str, typer.Argument(help="The participant's BIC.")],
    currency: Annotated[str, typer.Argument(help="ISO 4217 code.")],
    amount: Annotated[str, typer.Argument(help="A decimal number, such as 1000000.00.")],
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Move the amount back to the central account.")] = False,
    funding_id: Annotated[str | None, typer.Option("--id", help="A UUID; the same id is posted once.")] = None,
    subject: Annotated[str, _SUBJECT] = "operations",
) -> None:
    """Move central money to a participant's account at the running agent."""
    from gateway.federation.messages.settlement import Funding, FundingReceipt

    settings = _settings()
    minor = _minor(amount, currency)
    funding = Funding(id=funding_id or str(uuid4()), currency=currency, amount_minor=str(-minor if withdraw else minor))

    async def ask(client: FederationClient) -> FundingReceipt:
        url = f"{settings.url}/accounts/{participant}/funding"
        return await client.post(url, FundingReceipt, audience=settings.bic, json=funding, idempotent=True)

    receipt = _ask(settings, subject, ask)
    typer.echo(f"{receipt.reference}: {participant} {currency} {_readable(receipt.balance_minor, currency)}")


@app.command()
def fsck() -> None:
    """Recompute every balance from the journal and check every answer; exit code 1 if anything differs."""
    import asyncpg

    from gateway.agent.app import PACKAGE
    from gateway.agent.fsck import Check
    from gateway.agent.fsck import fsck as check_books
    from gateway.federation.commands.own_database import own_database
    from gateway.federation.storage.postgres import dsn

    settings = _settings()

    async def check(url: str) -> tuple[Check, ...]:
        connection = await asyncpg.connect(dsn(url))
        try:
            return await check_books(connection)
        finally:
            await connection.close()

    with own_database(settings, DATABASE, PACKAGE) as url:
        checks = asyncio.run(check(url))
    for result in checks:
        typer.echo(f"{'ok    ' if result.passed else 'FAILED'}  {result.name}")
        for finding in result.findings:
            typer.echo(f"        {shown(finding)}")
    if not all(result.passed for result in checks):
        raise typer.Exit(1)


def _settings() -> NodeSettings:
    from gateway.federation.settings import NodeSettings

    return NodeSettings.from_env()


def _identity(settings: NodeSettings) -> MemberIdentity:
    from gateway.federation.http.client import MemberIdentity

    return MemberIdentity(settings.bic, settings.keys_dir)


def _ask(settings: NodeSettings, subject: str, ask: Callable[[FederationClient], Awaitable[T]]) -> T:
    """Ask the running agent something as one of its own staff."""
    from gateway.federation.http.client import FederationClient, RemoteError
    from gateway.federation.membership.institution import staff_tokens

    identity = _identity(settings)
    tokens = staff_tokens(identity.token, issuer=settings.url, subject=subject)

    async def answer() -> T:
        async with FederationClient(settings.bic, identity.auth, settings.url, token_source=tokens) as client:
            return await ask(client)

    try:
        return asyncio.run(answer())
    except RemoteError as error:
        typer.echo(f"concordat: {explained(error)}", err=True)
        raise typer.Exit(1) from None


def _minor(text: str, currency: str) -> int:
    from gateway.federation.money import AmountError, parse_amount

    try:
        return parse_amount(text, currency)
    except AmountError as error:
        raise typer.BadParameter(str(error)) from None


def _readable(amount_minor: str, currency: str) -> str:
    from gateway.federation.money import format_minor

    return format_minor(int(amount_minor), currency)
