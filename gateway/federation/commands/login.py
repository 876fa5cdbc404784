"""The commands `concordat login` and `concordat token`: signing in by a key of one's own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compliance.terminal import shown
from gateway.federation.commands import profiles
from gateway.federation.commands.failures import explained
from gateway.federation.commands.profiles import Profile

if TYPE_CHECKING:
    from gateway.federation.http.client import RemoteError

_Name = Annotated[
    str,
    typer.Argument(envvar=profiles.ENVIRONMENT, help="The profile."),
]


def login(
    url: Annotated[str, typer.Option(envvar="CONCORDAT_URL", help="Base URL of the bank, or of the coordinator.")],
    bic: Annotated[str, typer.Option(envvar="CONCORDAT_BIC", help="Its BIC.")],
    key: Annotated[
        Path,
        typer.Option(
            envvar="CONCORDAT_CLIENT_KEY", help="Your private key (PEM) that is registered there.", dir_okay=False
        ),
    ],
    name: _Name = profiles.DEFAULT,
    client: Annotated[
        str | None,
        typer.Option(envvar="CONCORDAT_CLIENT", help="Your name there; that of the profile if absent."),
    ] = None,
    role: Annotated[
        str, typer.Option(help="The role that tokens are for, where you have several; as in 'read payments', too.")
    ] = "",
) -> None:
    """Sign in by your key, and keep where and as whom in a profile that other commands go by.

    They take `default`, or the one that CONCORDAT_PROFILE names, for what no option and no variable says. The key stays
    where it is; tokens are asked for when they are needed, and kept nowhere.
    """
    from gateway.federation.http.client import RemoteError, RemoteProblem

    profile = Profile(url=url.rstrip("/"), bic=bic, client=client or name, key=str(key.absolute()), role=role)
    several = False
    try:
        _token(profile)
    except RemoteError as error:
        # Whose key isn't known isn't told about roles.
        several = isinstance(error, RemoteProblem) and error.code == "invalid_scope" and not role
        if not several:
            raise _refused(error) from error
    path = profiles.write(name, profile)
    typer.echo(f"{profile.client} signs in at {shown(profile.url)}, kept in {shown(path)}")
    if several:
        typer.echo("with several roles: `concordat token --role` names one")


def token(
    name: _Name = profiles.DEFAULT,
    role: Annotated[
        str | None, typer.Option(help="The role that it is for, where you have several; the profile's if absent.")
    ] = None,
) -> None:
    """Print a fresh access token, good for some minutes: curl -H "Authorization: Bearer $(concordat token)"."""
    from gateway.federation.http.client import RemoteError, RemoteProblem

    try:
        typer.echo(_token(profiles.read(name), role))
    except RemoteError as error:
        if isinstance(error, RemoteProblem) and error.code == "invalid_scope" and not role:
            typer.echo("--role says for which role the token is", err=True)
        raise _refused(error) from error


def register(app: typer.Typer) -> None:
    """Add both commands to the application."""
    app.command()(login)
    app.command()(token)


def _token(profile: Profile, role: str | None = None) -> str:
    """Ask for a token. Raises RemoteError."""
    from compliance.crypto.keys import SigningKey
    from gateway.federation.http.client import FederationClient
    from gateway.federation.settings import ConfigurationError

    try:
        key = SigningKey.load(Path(profile.key))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{profile.key}: can't be read as a private key: {error}") from error

    async def ask() -> str:
        scope = profile.role if role is None else role
        async with FederationClient(profile.client, key, profile.url, scopes=(scope,)) as client:
            return await client.token(profile.bic)

    return asyncio.run(ask())


def _refused(error: RemoteError) -> typer.Exit:
    typer.echo(f"concordat: {explained(error)}", err=True)
    return typer.Exit(1)
