"""The commands `concordat participant webhook-…`: where the bank's events are sent, by its own API."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer

from compliance.terminal import shown

_Url = Annotated[str, typer.Option("--node", envvar="CONCORDAT_URL", help="The bank's base URL.")]
_Data = Annotated[Path, typer.Option(envvar="CONCORDAT_DATA_DIR", help="Where the bank's keys are.")]
_Bic = Annotated[str, typer.Option(envvar="CONCORDAT_BIC", help="The bank's BIC.")]
_Subject = Annotated[str, typer.Option(help="Who asks: recorded with the webhook, and in the security log.")]
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
    node: _Url,
    data_dir: _Data,
    bic: _Bic,
    subject: _Subject,
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
    _ask(node, data_dir, bic, subject, "POST", "", body)


def list_webhooks(node: _Url, data_dir: _Data, bic: _Bic, subject: _Subject) -> None:
    """Print where the bank's events are sent, how far each place has them, and what it fails of."""
    _ask(node, data_dir, bic, subject, "GET", "")


def change_secret(id_: _Id, node: _Url, data_dir: _Data, bic: _Bic, subject: _Subject) -> None:
    """Change a webhook's secret and print the new one, this once; for a day messages are signed under both."""
    _ask(node, data_dir, bic, subject, "POST", f"/{id_}/secret")


def replay(
    id_: _Id,
    after: Annotated[int, typer.Argument(min=0, help="The event to begin after.")],
    node: _Url,
    data_dir: _Data,
    bic: _Bic,
    subject: _Subject,
) -> None:
    """Send again what follows an event; also where a webhook is disabled."""
    _ask(node, data_dir, bic, subject, "POST", f"/{id_}/replay", {"after": after})


def delete(id_: _Id, node: _Url, data_dir: _Data, bic: _Bic, subject: _Subject) -> None:
    """Send nothing there any more, and forget the webhook."""
    _ask(node, data_dir, bic, subject, "DELETE", f"/{id_}")


def _ask(node: str, data_dir: Path, bic: str, subject: str, method: str, path: str, body: Any = None) -> None:
    """Ask the node and print its answer; exit code 1 if it refuses, or doesn't answer."""
    # Imported here, so that the other commands don't wait for an HTTP client.
    import msgspec

    from compliance.crypto.keys import SigningKey
    from gateway.federation.http.client import FederationClient, RemoteError
    from gateway.federation.membership.institution import staff_tokens
    from participants.roles import Role

    key_path, url = data_dir / "keys" / "token.pem", node.rstrip("/")
    if not key_path.exists():
        raise typer.BadParameter(f"no token key in {key_path.parent}; `init` makes it", param_hint="--data-dir")
    tokens = staff_tokens(SigningKey.load(key_path), issuer=url, subject=subject, role=Role.EVENTS)

    async def ask() -> bytes:
        async with FederationClient(subject, SigningKey.load(key_path), url, token_source=tokens) as client:
            content = None if body is None else msgspec.json.encode(body)
            headers = {"Content-Type": "application/json"}
            target = f"{url}/webhooks{path}"
            answer = await client.request(method, target, audience=bic, content=content, headers=headers)
            return answer.content

    try:
        content = asyncio.run(ask())
    except RemoteError as error:
        typer.echo(f"refused: {shown(error)}", err=True)
        raise typer.Exit(1) from error
    if content:
        typer.echo(msgspec.json.format(content).decode())
