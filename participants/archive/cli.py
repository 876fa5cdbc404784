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
    from participants.ledger.partitions import Partition

T = TypeVar("T")


def register(app: typer.Typer) -> None:
    """Add the commands to `concordat participant`."""
    for name, command in (("journal", journal), ("journal-detach", detach), ("journal-attach", attach)):
        app.command(name)(command)


def journal(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array instead of a table.")] = False,
) -> None:
    """List the parts of the journal: their events, when these were recorded, their size, and what is detached."""
    from participants.ledger.partitions import partitions

    settings = _settings()

    async def read(connection: asyncpg.Connection) -> tuple[list[Partition], dict[int, int]]:
        kept = await connection.fetch("SELECT first, kept FROM journal_archive WHERE attached_at IS NULL")
        return await partitions(connection), {row[0]: row[1] for row in kept}

    parts, kept = _with_owner(settings, read)
    if as_json:
        import json

        typer.echo(json.dumps([_described(part, kept) for part in parts], indent=2))
        return
    rows: list[tuple[str, ...]] = [("events", "number", "recorded from", "until", "size", "")]
    for part in parts:
        state = f"detached; {kept[part.first]:,} events stay" if part.first in kept else _state(part)
        times = [f"{at:%Y-%m-%d %H:%M}" if at else "" for at in (part.begins_at, part.ends_at)]
        size = f"{(part.event_bytes + part.posting_bytes) / 2**20:,.0f} MiB"
        rows.append((f"{part.first:,} to {part.bound - 1:,}", f"{part.events:,}", *times, size, state))
    # A table of another's making would be folded to the width of a terminal that isn't there.
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    typer.echo(f"Journal of {settings.bic}")
    for row in rows:
        cells = (
            f"{cell:>{width}}" if heading in ("number", "size") else f"{cell:<{width}}"
            for heading, cell, width in zip(rows[0], row, widths, strict=True)
        )
        typer.echo(("  " + "  ".join(cells)).rstrip())


def _state(part: Partition) -> str:
    """Return what a part is that isn't detached: nothing where it is full."""
    if part.events == part.bound - max(part.first, 1):
        return ""
    return "current" if part.events else "ahead"


def _described(part: Partition, kept: dict[int, int]) -> dict[str, str | int | None]:
    times = (None if at is None else at.isoformat().replace("+00:00", "Z") for at in (part.begins_at, part.ends_at))
    return {
        "first": part.first,
        "last": part.bound - 1,
        "events": part.events,
        **dict(zip(("recorded_from", "recorded_until"), times, strict=True)),
        "bytes": part.event_bytes + part.posting_bytes,
        "state": "detached" if part.first in kept else _state(part) or "full",
        "kept": kept.get(part.first),
    }


def detach(
    out: Annotated[Path, typer.Option(help="The directory to write the file to.", exists=True, file_okay=False)],
    before: Annotated[str, typer.Option(help="Only a part that was recorded before this day, as in 2025-01-31.")],
) -> None:
    """Take the oldest part of the journal out into a file, once that is written, read back and compared.

    Refused while anything in it is open, contested, unsettled or not yet told, and for 92 days after it was written.
    """
    from gateway.federation.http.client import MemberIdentity
    from participants.archive import detachment

    settings = _settings()
    signer = MemberIdentity(settings.bic, settings.keys_dir).sign
    at = _day(before)
    result = _with_owner(settings, lambda c: detachment.detach(c, settings.bic, signer, out, before=at))
    manifest = result.manifest
    typer.echo(
        f"{result.path}: events {manifest.first} to {manifest.bound - 1}, {manifest.postings.rows} postings;"
        f" {result.kept} events stay in the journal"
    )


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise typer.BadParameter(f"{text!a} is no day, as in 2025-01-31", param_hint="--before") from None


def attach(file: Annotated[Path, typer.Argument(help="The archive.", exists=True, dir_okay=False)]) -> None:
    """Put the part of the journal that was detached last back in its place; one that is there already is left so."""
    from participants.archive import attachment

    settings = _settings()
    keys = _own_keys(settings)
    attached = _with_owner(settings, lambda c: attachment.attach(c, file, bank=settings.bic, keys=keys))
    manifest, when = attached.manifest, "already" if attached.already else "again"
    typer.echo(f"events {manifest.first} to {manifest.bound - 1} are in the journal {when}")


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
