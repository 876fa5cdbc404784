"""`concordat participant client …`: who signs in at the bank, and who does no more."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from compliance.terminal import shown
from gateway.federation.commands.group import group
from participants.roles import Role, Scope

if TYPE_CHECKING:
    import asyncpg

T = TypeVar("T")

app = group("client", "The people and systems that sign in at the bank, each by a key of its own.")

_ClientId = Annotated[str, typer.Argument(help="Its name: small letters, digits, '.', '_', '-'.")]
_By = Annotated[str, typer.Option(help="Who says so, for the record.")]
AT_THE_MACHINE = "command line"


@app.command()
def add(
    client_id: _ClientId,
    role: Annotated[list[Role], typer.Option(help="What it is to do; once for each.", case_sensitive=False)],
    key: Annotated[str | None, typer.Option(help="Its public key, base64url as in a JWK.")] = None,
    create: Annotated[Path | None, typer.Option(help="Make a key in this file instead.", dir_okay=False)] = None,
    scope: Annotated[
        list[Scope] | None, typer.Option(help="With `--role read`: the books that it may read, all of them if absent.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="When the key ends, as in 2027-03-31T18:00:00Z; never if absent.")
    ] = None,
    by: _By = AT_THE_MACHINE,
) -> None:
    """Let a client sign in by a key, at the running bank too. A second key may be added before the first is revoked."""
    from compliance.crypto.keys import SigningKey, VerifyingKey
    from participants.access import clients

    if not re.fullmatch(clients.CLIENT_PATTERN, client_id):
        raise typer.BadParameter(
            "small letters, digits, '.', '_' and '-', beginning with a letter", param_hint="CLIENT_ID"
        )
    if (key is None) == (create is None):
        raise typer.BadParameter("give either --key or --create")
    ends = None if expires is None else _instant(expires)

    async def register(ledger: asyncpg.Connection) -> VerifyingKey:
        # Where there is no bank, no key is left behind.
        try:
            public = VerifyingKey(key) if key else SigningKey.load_or_create(create or Path()).verifying_key
        except (OSError, ValueError) as error:
            raise typer.BadParameter(shown(f"not an Ed25519 key: {error}"), param_hint="--key") from error
        await clients.register(ledger, client_id, public, role, scopes=scope or (), expires_at=ends, by=by)
        return public

    typer.echo(f"{client_id} signs in by key {_do(register).kid} for {', '.join(role)}")


@app.command("list")
def list_() -> None:
    """Show every key that was registered, and whether it counts."""
    from datetime import UTC

    from participants.access import clients

    now = datetime.now(UTC)
    for key in _do(clients.every):
        if key.revoked_at is not None:
            state = f"revoked {key.revoked_at:%Y-%m-%dT%H:%M:%SZ} by {key.revoked_by}"
        elif key.seconds_left(now) <= 0:
            state = f"ended {key.expires_at:%Y-%m-%dT%H:%M:%SZ}"
        else:
            state = "active" if key.expires_at is None else f"active until {key.expires_at:%Y-%m-%dT%H:%M:%SZ}"
        may = ", ".join(key.roles) + (f" of {key.scope}" if key.scope else "")
        typer.echo(shown(f"{key.client_id:<20} {key.kid} {may}: {state} (registered by {key.registered_by})"))


@app.command()
def revoke(
    client_id: _ClientId,
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    kid: Annotated[str | None, typer.Option(help="One key of it, by its id; all of them if absent.")] = None,
    by: _By = AT_THE_MACHINE,
) -> None:
    """Let a client in no more: it gets no token at once, and those that it has end within seconds."""
    from participants.access import clients

    for done in _do(lambda ledger: clients.revoke(ledger, client_id, kid=kid, by=by, reason=reason)):
        typer.echo(f"{shown(client_id)}: key {done} counts no more")


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}", param_hint="--expires") from error
    if instant.tzinfo is None:
        raise typer.BadParameter(f"{text}: say in which zone, as in {text}Z", param_hint="--expires")
    return instant


def _do(work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    """Do something with the bank's clients, whether or not its node runs meanwhile."""
    from gateway.federation.commands.own_database import own_database
    from gateway.federation.settings import NodeSettings
    from gateway.federation.storage.sessions import connect
    from participants.access.clients import ClientError
    from participants.ledger import DATABASE, MIGRATIONS

    settings = NodeSettings.from_env()

    async def run(url: str) -> T:
        ledger: Any = await connect(url, application_name=f"concordat {settings.bic} client")
        try:
            return await work(ledger)
        finally:
            await ledger.close()

    with own_database(settings, DATABASE, MIGRATIONS, up_to_date=True) as url:
        try:
            return asyncio.run(run(url))
        except ClientError as error:
            typer.echo(f"refused: {shown(error)}", err=True)
            raise typer.Exit(1) from None
