"""The commands `concordat participant webhook-…`: where the bank's events are sent, by its own API."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any
from uuid import uuid4

import typer

from gateway.federation.commands.failures import explained
from participants.bank_client import (
    EVENTS,
    SEES_WEBHOOKS,
    Bank,
    ClientKey,
    ClientName,
    DataDir,
    Subject,
    Url,
    bank_client,
    bank_of,
)

_Id = Annotated[str, typer.Argument(help="The webhook's id.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `concordat participant`."""
    for name, command in (
        ("webhook-add", add),
        ("webhook-list", list_webhooks),
        ("webhook-secret", change_secret),
        ("webhook-replay", replay),
        ("webhook-delete", delete),
    ):
        app.command(name)(command)


def add(
    address: Annotated[str, typer.Argument(help="Where to send: an https URL whose host the node's settings name.")],
    url: Url,
    bank: Bank,
    client: ClientName = None,
    key: ClientKey = None,
    data_dir: DataDir = None,
    subject: Subject = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Only events of this type; repeat for several.")
    ] = None,
    account: Annotated[str | None, typer.Option(help="Only events of this account.")] = None,
    after: Annotated[
        int | None, typer.Option(min=0, help="The event to begin after; what happens from now on if absent.")
    ] = None,
) -> None:
    """Send the bank's events to an address. Prints the webhook with its secret, which is shown this once."""
    body: dict[str, Any] = {
        "id": str(uuid4()),
        "url": address,
        "types": types or [],
        "account": account,
        "after": after,
    }
    _ask(EVENTS, "POST", "", body, url=url, bank=bank, client=client, key=key, data_dir=data_dir, subject=subject)


def list_webhooks(
    url: Url,
    bank: Bank,
    client: ClientName = None,
    key: ClientKey = None,
    data_dir: DataDir = None,
    subject: Subject = None,
) -> None:
    """Print where the bank's events are sent, how far each place has them, and what it fails of."""
    _ask(SEES_WEBHOOKS, "GET", "", url=url, bank=bank, client=client, key=key, data_dir=data_dir, subject=subject)


def change_secret(
    id_: _Id,
    url: Url,
    bank: Bank,
    client: ClientName = None,
    key: ClientKey = None,
    data_dir: DataDir = None,
    subject: Subject = None,
) -> None:
    """Change a webhook's secret and print the new one, this once; for a day messages are signed under both."""
    _ask(
        EVENTS, "POST", f"/{id_}/secret", url=url, bank=bank, client=client, key=key, data_dir=data_dir, subject=subject
    )


def replay(
    id_: _Id,
    after: Annotated[int, typer.Argument(min=0, help="The event to begin after.")],
    url: Url,
    bank: Bank,
    client: ClientName = None,
    key: ClientKey = None,
    data_dir: DataDir = None,
    subject: Subject = None,
) -> None:
    """Send again what follows an event; also where a webhook is disabled."""
    _ask(
        EVENTS,
        "POST",
        f"/{id_}/replay",
        {"after": after},
        url=url,
        bank=bank,
        client=client,
        key=key,
        data_dir=data_dir,
        subject=subject,
    )


def delete(
    id_: _Id,
    url: Url,
    bank: Bank,
    client: ClientName = None,
    key: ClientKey = None,
    data_dir: DataDir = None,
    subject: Subject = None,
) -> None:
    """Send nothing there any more, and forget the webhook."""
    _ask(EVENTS, "DELETE", f"/{id_}", url=url, bank=bank, client=client, key=key, data_dir=data_dir, subject=subject)


def _ask(scopes: Sequence[str], method: str, path: str, body: Any = None, *, url: str, bank: str, **who: Any) -> None:
    """Ask the node and print its answer; exit code 1 if it refuses, or doesn't answer."""
    # Imported here, so that the other commands don't wait for an HTTP client.
    import msgspec

    from gateway.federation.http.client import RemoteError

    url, name = url.rstrip("/"), bank_of(bank)

    async def ask() -> bytes:
        async with bank_client(scopes, url=url, **who) as signed_in:
            content = None if body is None else msgspec.json.encode(body)
            headers = {"Content-Type": "application/json"}
            answer = await signed_in.request(
                method, f"{url}/webhooks{path}", audience=name, content=content, headers=headers
            )
            return answer.content

    try:
        content = asyncio.run(ask())
    except RemoteError as error:
        typer.echo(f"refused: {explained(error)}", err=True)
        raise typer.Exit(1) from error
    if content:
        typer.echo(msgspec.json.format(content).decode())
