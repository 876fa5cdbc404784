"""Who asks a bank's node something at a terminal: the same options at every such command, and the client they make."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compliance.bic import BicError, normal_bic
from compliance.terminal import shown
from participants.roles import Role, Scope

if TYPE_CHECKING:
    from gateway.federation.http.client import FederationClient

Url = Annotated[str, typer.Option(envvar="CONCORDAT_URL", help="The bank's base URL.")]
Bank = Annotated[str, typer.Option(envvar="CONCORDAT_BIC", help="The bank's BIC.")]
ClientName = Annotated[
    str | None,
    typer.Option(envvar="CONCORDAT_CLIENT", help="Your name at the bank: recorded with what you change."),
]
ClientKey = Annotated[
    Path | None,
    typer.Option(envvar="CONCORDAT_CLIENT_KEY", help="Your private key (PEM) that the bank knows.", dir_okay=False),
]
DataDir = Annotated[
    Path | None, typer.Option(envvar="CONCORDAT_DATA_DIR", help="Where the bank's keys are, to ask without your own.")
]
Subject = Annotated[str | None, typer.Option(help="Who you are, where you ask by the bank's keys.")]

ORDERS = (Role.ORDERS.value,)
EVENTS = (Role.EVENTS.value,)
SEES_PAYMENTS = (f"{Role.READ} {Scope.PAYMENTS}", Role.ORDERS.value, Role.SCREENING.value)
SEES_WEBHOOKS = (Role.READ.value, Role.EVENTS.value)
"""As which a command asks: the first that the client may be, least first."""


def bank_client(
    scopes: Sequence[str],
    *,
    url: str,
    client: str | None,
    key: Path | None,
    data_dir: Path | None,
    subject: str | None,
) -> FederationClient:
    """Return who asks: a client by its key, or somebody named where the bank's keys are.

    Ends the command if it is nobody.
    """
    from compliance.crypto.keys import SigningKey
    from gateway.federation.http.client import FederationClient

    if subject is None and client is not None and key is not None:
        try:
            return FederationClient(client, SigningKey.load(key), url, timeout_s=60, scopes=scopes)
        except (OSError, ValueError) as error:
            raise typer.BadParameter(shown(f"{key}: can't be read as a private key: {error}")) from error
    if data_dir is None or subject is None:
        raise typer.BadParameter(
            "who asks? Sign in once with `concordat login`, or give --client and --key;"
            " where the bank's keys are (--data-dir), --subject is enough"
        )
    return staff_client(data_dir, url=url, subject=subject, scopes=scopes)


def staff_client(data_dir: Path, *, url: str, subject: str, scopes: Sequence[str] = ORDERS) -> FederationClient:
    """Return a client that asks in a person's name, by the `token.pem` of the bank's data directory."""
    from compliance.crypto.keys import SigningKey
    from gateway.federation.http.client import FederationClient
    from gateway.federation.membership.institution import staff_tokens

    path = data_dir / "keys" / "token.pem"
    if not path.exists():
        typer.echo(
            shown(f"{path} is missing: run this where the bank's keys are (concordat participant init)"), err=True
        )
        raise typer.Exit(1)
    key = SigningKey.load(path)
    role, *_ = scopes[0].split()
    tokens = staff_tokens(key, issuer=url, subject=subject, role=role)
    return FederationClient(subject, key, url, timeout_s=60, token_source=tokens)


def bank_of(bic: str) -> str:
    """Return a bank's BIC in its normal form; ends the command for what is none."""
    try:
        return normal_bic(bic)
    except BicError as error:
        raise typer.BadParameter(str(error), param_hint="--bank") from None
