"""The commands `concordat participant journal…`: the parts of the journal, taken out into files and put back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    import asyncpg

    from compliance.crypto.keys import VerifyingKey
    from gateway.federation.settings import NodeSettings

T = TypeVar("T")


def register(app: typer.Typer) -> None:
    """Add the commands to `concordat participant`."""
    for name, command in (("journal", journal), ("journal-detach", detach), ("journal-attach", attach)):
        app.command(name)(command)


def journal() -> None:
    """List the parts of the journal: their events, when these were recorded, their size, and what is detached."""
    from participants.ledger.partitions import Partition, partitions

    settings = _settings()

    async def read(connection: asyncpg.Connection) -> tuple[list[Partition], dict[int, int]]:
        kept = await connection.fetch("SELECT first, kept FROM journal_archive WHERE attached_at IS NULL")
        return await partitions(connection), {row[0]: row[1] for row in kept}

    parts, kept = _with_owner(settings, read)
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Journal of {settings.bic}", title_justify="left")
    for heading in ("events", "number", "recorded from", "until", "size", ""):
        table.add_column(heading, justify="right" if heading in ("number", "size") else "left")
    for part in parts:
        if part.first in kept:
            state = f"detached; {kept[part.first]:,} events stay"
        else:
            state = "" if part.events == part.bound - max(part.first, 1) else "ahead" if not part.events else "current"
        times = (f"{at:%Y-%m-%d %H:%M}" if at else "" for at in (part.begins_at, part.ends_at))
        size = f"{(part.event_bytes + part.posting_bytes) / 2**20:,.0f} MiB"
        table.add_row(f"{max(part.first, 1):,} to {part.bound - 1:,}", f"{part.events:,}", *times, size, state)
    Console().print(table)


def detach(
    out: Annotated[Path, typer.Option(help="The directory to write the file to.", exists=True, file_okay=False)],
    before: Annotated[
        datetime, typer.Option(help="Only a part that was recorded before this day.", formats=["%Y-%m-%d"])
    ],
) -> None:
    """Take the oldest part of the journal out into a file, once that is written, read back and compared.

    Refused while anything in it is open, contested, unsettled or not yet told, and for 92 days after it was written.
    """
    from gateway.federation.http.client import MemberIdentity
    from participants.archive import detachment

    settings = _settings()
    signer = MemberIdentity(settings.bic, settings.keys_dir).sign
    at = before.replace(tzinfo=UTC)
    result = _with_owner(settings, lambda c: detachment.detach(c, settings.bic, signer, out, before=at))
    manifest = result.manifest
    typer.echo(
        f"{result.path}: events {manifest.first} to {manifest.bound - 1}, {manifest.postings.rows} postings;"
        f" {result.kept} events stay in the journal"
    )


def attach(file: Annotated[Path, typer.Argument(help="The archive.", exists=True, dir_okay=False)]) -> None:
    """Put the part of the journal that was detached last back in its place."""
    from participants.archive import attachment

    settings = _settings()
    keys = _own_keys(settings)
    manifest = _with_owner(settings, lambda c: attachment.attach(c, file, bank=settings.bic, keys=keys))
    typer.echo(f"events {manifest.first} to {manifest.bound - 1} are in the journal again")


def _own_keys(settings: NodeSettings) -> dict[str, VerifyingKey]:
    """Return the keys that this bank signs with or did, by key id, as far as they are known here."""
    from gateway.federation.http.client import MemberIdentity
    from gateway.federation.membership.trust import TrustStore

    key = MemberIdentity(settings.bic, settings.keys_dir).sign.verifying_key
    if settings.anchor is None:
        return {key.kid: key}
    trust = TrustStore.open(settings.anchor, path=settings.trust_list_path)
    return {key.kid: key, **trust.signing_keys(settings.bic, retired=True)}


def _with_owner(settings: NodeSettings, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    """Do something on a connection of the ledger's owner. Ends the command with 1 where that is refused."""
    from compliance.terminal import shown
    from gateway.federation.commands.own_database import own_database
    from participants.archive.document import ArchiveRefusedError
    from participants.ledger import DATABASE, MIGRATIONS

    async def do(url: str) -> T:
        async with owner(url) as connection:
            return await work(connection)

    with own_database(settings, DATABASE, MIGRATIONS) as url:
        try:
            return asyncio.run(do(url))
        except ArchiveRefusedError as error:
            typer.echo(f"refused: {shown(str(error))}", err=True)
            raise typer.Exit(1) from error


@asynccontextmanager
async def owner(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect as the login user, who owns the tables; times come as text of UTC, which archives are made of."""
    import asyncpg

    from gateway.federation.storage.postgres import dsn

    session = {
        "application_name": "concordat journal",
        "timezone": "UTC",
        "datestyle": "ISO, YMD",
        "lock_timeout": "4s",
        "statement_timeout": "0",
        "idle_in_transaction_session_timeout": "30s",
        # What a killed command has begun ends with it, and not when the server next has something to say.
        "client_connection_check_interval": "1s",
    }
    connection = await asyncpg.connect(dsn(url), timeout=10, server_settings=session)
    try:
        yield connection
    finally:
        await connection.close()


def _settings() -> NodeSettings:
    from gateway.federation.settings import NodeSettings

    return NodeSettings.from_env()
