"""`concordat coordinator …`: found, run and look after the clearing house."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from compliance.terminal import shown
from gateway.federation.commands.group import group

if TYPE_CHECKING:
    from litestar import Litestar
    from sqlalchemy.ext.asyncio import AsyncConnection

    from gateway.coordinator.app import CoordinatorCore
    from gateway.coordinator.rulebook import Rulebook
    from gateway.federation.membership.documents import Application
    from gateway.federation.settings import NodeSettings

T = TypeVar("T")

app = group("coordinator", "The clearing house.")

DATABASE = "coordinator"
# Who acts when a command is given at the coordinator's own machine, in the events that it leaves.
AT_THE_MACHINE = "command line"

_Name = Annotated[str, typer.Option(help="The clearing house's name.", envvar="CONCORDAT_NAME")]
_Rulebook = Annotated[
    Path | None,
    typer.Option(
        "--rulebook", help="A rulebook in TOML or JSON; without it, the built-in one.", envvar="CONCORDAT_RULEBOOK"
    ),
]
APPLICATION_BYTES_MAX = 64 * 1024
_Application = Annotated[Path, typer.Argument(help="The application that the institution's `init` wrote.")]
_Reason = Annotated[str, typer.Option(help="Why, for the event log.")]


@app.command()
def init(name: _Name = "Clearing house", rulebook: _Rulebook = None) -> None:
    """Make the keys, bring the database up to date and publish the first trust list. Safe to run again."""

    async def nothing_more(_: CoordinatorCore) -> None:
        return

    from gateway.federation.http.client import MemberIdentity

    settings = _settings()
    MemberIdentity.made(settings.bic, settings.keys_dir)
    _with_core(nothing_more, first=(_rules(rulebook), name))
    anchor()


@app.command()
def serve(name: _Name = "Clearing house", rulebook: _Rulebook = None) -> None:
    """Run the coordinator until it is told to stop. Brings its database up to date first."""
    from gateway.coordinator.app import PACKAGE, build
    from gateway.coordinator.registry.members import COORDINATOR
    from gateway.federation.commands import serving

    settings, given = _settings(), _rules(rulebook)

    def application(url: str) -> Litestar:
        return build(settings, url, asyncio.run(_to_go_by(url, given)), name=name)

    serving.serve(settings, database=DATABASE, package=PACKAGE, build=application, owner=COORDINATOR)


@app.command("rulebook")
def rulebook_(rulebook: _Rulebook = None) -> None:
    """Check a rulebook, and print its version and the digest by which operators agree on it."""
    from gateway.federation.settings import ConfigurationError

    try:
        rules = _rules(rulebook)
    except ConfigurationError as error:
        typer.echo(f"concordat: {shown(error)}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"sha256={rules.sha256} version={shown(rules.version)}")


@app.command()
def anchor(
    out: Annotated[Path | None, typer.Option(help="Where to write it (standard output if absent).")] = None,
) -> None:
    """Print the trust anchor: the one thing that members, auditors and verifiers believe without proof."""
    import msgspec

    from compliance.trust import Anchor
    from gateway.federation.http.client import MemberIdentity

    settings = _settings()
    trusted = Anchor.of(settings.bic, MemberIdentity(settings.bic, settings.keys_dir).sign.verifying_key)
    if out is None:
        typer.echo(msgspec.json.format(msgspec.json.encode(trusted)).decode())
    else:
        trusted.write(out)


@app.command("add-operator")
def add_operator(
    client_id: Annotated[str, typer.Argument(help="The person's name: small letters, digits, '.', '_', '-'.")],
    key: Annotated[str | None, typer.Option(help="The public key, base64url as in a JWK.")] = None,
    create: Annotated[Path | None, typer.Option(help="Make a key in this directory instead (auth.pem).")] = None,
    role: Annotated[str, typer.Option(help="operator or auditor.")] = "operator",
    recovery: Annotated[
        str | None, typer.Option(help="Why the operators can't do it by themselves; the event log keeps it.")
    ] = None,
) -> None:
    """Let an operator or auditor in by a public key, or give a known one a new key, until the house is founded.

    After that one operator proposes it and another confirms; --recovery is for when their keys are lost.
    """
    import re

    from compliance.crypto.keys import VerifyingKey
    from gateway.coordinator.registry.acts import CLIENT_PATTERN
    from gateway.federation.signers.key_store import open_keys

    if not re.fullmatch(CLIENT_PATTERN, client_id):
        raise typer.BadParameter(
            "small letters, digits, '.', '_' and '-', beginning with a letter", param_hint="CLIENT_ID"
        )
    if role not in ("operator", "auditor"):
        raise typer.BadParameter("operator or auditor", param_hint="--role")
    if (key is None) == (create is None):
        raise typer.BadParameter("give either --key or --create")
    try:
        given = VerifyingKey(key) if key else None
    except ValueError as error:
        raise typer.BadParameter(f"not an Ed25519 public key: {error}", param_hint="--key") from error
    if recovery is not None and not recovery.strip():
        raise typer.BadParameter("say why the operators can't do it by themselves", param_hint="--recovery")
    granted: Literal["operator", "auditor"] = "operator" if role == "operator" else "auditor"

    async def let_in(core: CoordinatorCore) -> str:
        if recovery is None:
            await core.registry.require_founding()
        reason = "let in by key" if recovery is None else f"recovery: {recovery}"
        # Who is refused leaves no key behind.
        public = given or open_keys(create or Path()).make("auth").verifying_key
        return await core.registry.add_client(client_id, granted, public.x, by=AT_THE_MACHINE, reason=reason)

    kid = _with_core(let_in)
    typer.echo(f"{shown(client_id)} is {role} by key {kid}")


@app.command()
def invite(
    bic: Annotated[str, typer.Argument(help="The BIC of the bank that may apply.")],
    reason: _Reason = "invited at the coordinator's machine",
) -> None:
    """Print a code by which a bank may apply once. It isn't kept; an earlier one for the same BIC counts no more."""
    from compliance.bic import BicError, normal_bic

    try:
        bic = normal_bic(bic)
    except BicError as error:
        raise typer.BadParameter(str(error), param_hint="BIC") from None
    invitation = _with_core(lambda core: core.registry.invite(bic, by=AT_THE_MACHINE, reason=reason))
    typer.echo(invitation.code)
    typer.echo(f"good for {bic} until {invitation.expires_at}", err=True)


@app.command("add-participant")
def add_participant(
    application: _Application,
    cap: Annotated[
        list[str] | None, typer.Option(help="A net debit cap, as in EUR=2500000.00; once for each currency.")
    ] = None,
    reason: _Reason = "enrolled at the coordinator's machine",
) -> None:
    """Take a bank in at once, approved, activated, with its caps, until the house is founded."""
    caps_minor = dict(_cap(entry) for entry in cap or ())
    _admit(application, "participant", caps_minor, reason)


@app.command("add-agent")
def add_agent(
    application: _Application,
    reason: _Reason = "enrolled at the coordinator's machine",
) -> None:
    """Take the settlement agent in, until the house is founded."""
    _admit(application, "agent", {}, reason)


@app.command()
def status() -> None:
    """Show who is a member, and prove that the event log is whole."""
    from sqlalchemy import text

    from compliance.event_log import ChainError
    from gateway.coordinator.log import events
    from gateway.coordinator.registry import trust_list
    from gateway.federation.storage.database import transaction

    async def look(core: CoordinatorCore) -> list[str]:
        async with transaction(core.engine) as conn:
            count = await events.verify_chain(conn)
            version = await trust_list.version(conn)
            members = await conn.execute(text("SELECT bic, kind, status, name FROM members ORDER BY kind, bic"))
            clients = await conn.execute(text("SELECT client_id, role FROM clients WHERE NOT disabled ORDER BY 1"))
            return [
                f"events      {count}, the chain of hashes is whole",
                f"trust list  version {version}",
                f"rulebook    {core.rulebook.version} ({core.rulebook.sha256[:12]})",
                *(f"{row.kind:<11} {row.bic:<11} {row.status:<9} {row.name}" for row in members),
                *(f"{row.role:<11} {row.client_id}" for row in clients),
            ]

    try:
        typer.echo("\n".join(map(shown, _with_core(look))))
    except ChainError as error:
        typer.echo(f"the event log was tampered with: {shown(error)}", err=True)
        raise typer.Exit(1) from error


def _admit(
    path: Path,
    kind: Literal["participant", "agent"],
    caps_minor: dict[str, int],
    reason: str,
) -> None:
    applicant = _application(path)

    async def admit(core: CoordinatorCore) -> None:
        await core.registry.require_founding()
        await core.registry.admit(applicant, kind=kind, caps_minor=caps_minor, by=AT_THE_MACHINE, reason=reason)

    _with_core(admit)
    typer.echo(f"{applicant.bic} ({shown(applicant.name)}) is an active {kind}")


def _application(path: Path) -> Application:
    import msgspec

    from compliance.crypto.dsse import Envelope
    from gateway.coordinator.registry.applications import read_application
    from gateway.federation.http.client import MemberIdentity
    from gateway.federation.problems import Refusal

    settings = _settings()
    try:
        scheme = MemberIdentity.of_coordinator(settings.bic, settings.keys_dir).scheme
        with path.open("rb") as file:
            document = file.read(APPLICATION_BYTES_MAX + 1)
        if len(document) > APPLICATION_BYTES_MAX:
            raise ValueError("too large for an application")
        return read_application(msgspec.json.decode(document, type=Envelope), scheme)
    except (OSError, ValueError, Refusal) as error:
        raise typer.BadParameter(shown(f"{path}: {error}"), param_hint="APPLICATION") from error


def _cap(entry: str) -> tuple[str, int]:
    from gateway.federation.money import AmountError, parse_amount

    currency, _, amount = entry.partition("=")
    try:
        return currency, parse_amount(amount, currency)
    except AmountError as error:
        raise typer.BadParameter(f"{entry}: {error}", param_hint="--cap") from error


def _settings() -> NodeSettings:
    from gateway.federation.settings import NodeSettings

    return NodeSettings.from_env()


def _rules(path: Path | None) -> Rulebook:
    from gateway.coordinator import rulebook

    return rulebook.load(path)


async def _to_go_by(url: str, given: Rulebook) -> Rulebook:
    """Return the rulebook to run by: the file's, or the one in force while nobody has agreed on the file's."""
    from gateway.coordinator.registry import rulebooks

    rules = await _read(url, lambda conn: rulebooks.to_go_by(conn, given))
    if rules != given:
        typer.echo(
            f"concordat: the rulebook in force is {shown(rules.version)} {rules.sha256}; the file's"
            f" {shown(given.version)} {given.sha256} waits for two operators to agree on it"
            " (concordat decide propose rulebook.adopt) and for the next start",
            err=True,
        )
    return rules


async def _read(url: str, read: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """Read from the coordinator's database before there is a core."""
    from gateway.federation.storage.database import create_engine, transaction

    engine = create_engine(url)
    try:
        async with transaction(engine) as conn:
            return await read(conn)
    finally:
        await engine.dispose()


def _with_core(work: Callable[[CoordinatorCore], Awaitable[T]], *, first: tuple[Rulebook, str] | None = None) -> T:
    """Do something with the coordinator's registry and database, whether or not the coordinator runs meanwhile.

    `first` is the rulebook and the name to found it with; without, it has to be founded already.
    """
    from gateway.coordinator.app import PACKAGE, CoordinatorCore
    from gateway.coordinator.registry import rulebooks
    from gateway.coordinator.registry.members import COORDINATOR
    from gateway.federation.commands.own_database import own_database
    from gateway.federation.problems import Refusal
    from gateway.federation.settings import ConfigurationError

    settings = _settings()

    async def in_force(url: str) -> Rulebook:
        rules = await _read(url, rulebooks.in_force)
        if rules is None:
            raise ConfigurationError("the coordinator isn't founded yet: run `concordat coordinator init`")
        return rules

    async def run(url: str) -> T:
        core = CoordinatorCore.open(settings, url, first[0] if first else await in_force(url))
        try:
            if first:
                await core.register_itself(first[1])
            return await work(core)
        finally:
            await core.engine.dispose()

    with own_database(settings, DATABASE, PACKAGE, owner=COORDINATOR, up_to_date=True) as url:
        try:
            task: Coroutine[None, None, T] = run(url)
            return asyncio.run(task)
        except Refusal as refusal:
            typer.echo(f"refused: {refusal.reason}: {shown(refusal.detail)}", err=True)
            raise typer.Exit(1) from refusal
