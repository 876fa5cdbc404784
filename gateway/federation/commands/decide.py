"""`concordat decide …`: an operator's decisions on the command line, each signed by the operator's own key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from compliance.terminal import shown
from gateway.federation.commands.client_options import ClientKey, ClientName, CoordinatorBic, CoordinatorUrl
from gateway.federation.commands.failures import explained
from gateway.federation.commands.group import group

if TYPE_CHECKING:
    from gateway.federation.http.client import FederationClient
    from gateway.federation.identity.deciding import DecidingKey
    from gateway.federation.messages.proposals import ProposalView

app = group("decide", "Propose changes of the registry, and confirm or reject what others propose.")

_Proposal = Annotated[str, typer.Argument(help="The proposal's id, as `list` shows it.")]
_Reason = Annotated[str, typer.Option(help="Why. It is signed, and the event log keeps it.", show_default=False)]


@app.command()
def key(
    path: Annotated[Path, typer.Argument(help="Where to write it; a file that is there is never written over.")],
) -> None:
    """Make an operator's or auditor's own key at home, and print its public half and its id."""
    from compliance.crypto.keys import SigningKey

    if path.exists():
        raise typer.BadParameter(shown(f"{path} is there already"), param_hint="PATH")
    own = SigningKey.load_or_create(path)
    typer.echo(f"x={own.x}")
    typer.echo(f"kid={own.kid}")


@app.command("list")
def list_(coordinator: CoordinatorUrl, coordinator_bic: CoordinatorBic, client: ClientName, key: ClientKey) -> None:
    """Show all that waits for a second operator, with what confirming it would sign."""
    from gateway.federation.messages.proposals import Proposals

    async def ask(http: FederationClient, deciding: DecidingKey, url: str) -> Any:
        return await http.get(f"{url}/proposals", Proposals, audience=deciding.coordinator)

    waiting = _as_operator(ask, coordinator, coordinator_bic, client, key)
    for proposal in waiting.proposals:
        _show(proposal)


@app.command()
def propose(
    kind: Annotated[
        str, typer.Argument(help="What: member.suspend, cap, client.let_in … (docs/reference/decisions.md has all).")
    ],
    subject: Annotated[str, typer.Argument(help="The member's BIC, the client's name, or the currency.")],
    coordinator: CoordinatorUrl,
    coordinator_bic: CoordinatorBic,
    client: ClientName,
    key: ClientKey,
    reason: _Reason,
    term: Annotated[list[str] | None, typer.Option(help="A term, as in currency=EUR; once for each.")] = None,
) -> None:
    """Propose a change of the registry; another operator confirms it within the hour."""
    from compliance.bic import normal_bic
    from compliance.statements import Act, ActKind
    from gateway.federation.membership.before import OF_CLIENTS, OF_DAYS, with_before
    from gateway.federation.messages.proposals import ProposalView

    try:
        asked = ActKind(kind)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="KIND") from error
    try:
        named = subject if asked in OF_CLIENTS | OF_DAYS else normal_bic(subject)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="SUBJECT") from error
    act = Act(kind=asked, subject=named, terms=dict(_term(entry) for entry in term or ()))

    async def send(http: FederationClient, deciding: DecidingKey, url: str) -> ProposalView:
        async def get(path: str, kind: type[Any]) -> Any:
            return await http.get(f"{url}{path}", kind, audience=deciding.coordinator)

        request = deciding.act(await with_before(act, get), reason=reason)
        return await http.post(f"{url}/proposals", ProposalView, audience=deciding.coordinator, json=request)

    _show(_as_operator(send, coordinator, coordinator_bic, client, key))


@app.command("calendar")
def calendar_(
    coordinator: CoordinatorUrl,
    coordinator_bic: CoordinatorBic,
    client: ClientName,
    key: ClientKey,
    days: Annotated[int, typer.Option(help="How many days from today on.", min=1, max=400)] = 31,
) -> None:
    """Show on which days to come which currencies don't settle, and why. `propose day.close` declares one."""
    from gateway.federation.messages.calendar import CalendarView

    async def ask(http: FederationClient, deciding: DecidingKey, url: str) -> Any:
        return await http.get(f"{url}/calendar?days={days}", CalendarView, audience=deciding.coordinator)

    view = _as_operator(ask, coordinator, coordinator_bic, client, key)
    for closed in view.closed:
        said = f": {closed.declared}" if closed.declared else ""
        typer.echo(shown(f"{closed.day} {closed.currency} {closed.why}{said}"))


@app.command()
def confirm(
    proposal: _Proposal,
    coordinator: CoordinatorUrl,
    coordinator_bic: CoordinatorBic,
    client: ClientName,
    key: ClientKey,
    reason: _Reason,
) -> None:
    """Show a proposal, and confirm it once its subject is typed: it is done at once."""
    _answer(proposal, "confirm", reason, coordinator, coordinator_bic, client, key)


@app.command()
def reject(
    proposal: _Proposal,
    coordinator: CoordinatorUrl,
    coordinator_bic: CoordinatorBic,
    client: ClientName,
    key: ClientKey,
    reason: _Reason,
) -> None:
    """Reject somebody else's proposal."""
    _answer(proposal, "reject", reason, coordinator, coordinator_bic, client, key)


@app.command()
def withdraw(
    proposal: _Proposal,
    coordinator: CoordinatorUrl,
    coordinator_bic: CoordinatorBic,
    client: ClientName,
    key: ClientKey,
) -> None:
    """Take your own proposal back."""
    from gateway.federation.messages.proposals import ProposalView

    async def send(http: FederationClient, deciding: DecidingKey, url: str) -> ProposalView:
        return await http.post(
            f"{url}/proposals/{proposal}/withdrawal", ProposalView, audience=deciding.coordinator, json=None
        )

    _show(_as_operator(send, coordinator, coordinator_bic, client, key))


def _answer(
    proposal: str,
    decision: Literal["confirm", "reject"],
    reason: str,
    coordinator: str,
    coordinator_bic: str,
    client: str,
    key: Path,
) -> None:
    from gateway.federation.identity.deciding import NotShownError
    from gateway.federation.messages.proposals import ProposalView

    async def send(http: FederationClient, deciding: DecidingKey, url: str) -> ProposalView:
        view = await http.get(f"{url}/proposals/{proposal}", ProposalView, audience=deciding.coordinator)
        _show(view)
        if decision == "confirm" and typer.prompt("Type its subject to confirm") != view.subject:
            typer.echo("not confirmed", err=True)
            raise typer.Exit(1)
        try:
            signed = deciding.decision(view, decision, reason=reason)
        except NotShownError as error:
            typer.echo(f"not signed: {shown(error)}", err=True)
            raise typer.Exit(1) from error
        path = f"{url}/proposals/{proposal}/decision"
        return await http.post(path, ProposalView, audience=deciding.coordinator, json=signed)

    _show(_as_operator(send, coordinator, coordinator_bic, client, key))


def _show(proposal: ProposalView) -> None:
    """Print a proposal: what it is, what it changes from and to, and the act that is signed, as it is signed."""
    from gateway.federation.identity.deciding import NotShownError, act_of
    from gateway.federation.membership.before import described

    typer.echo(shown(f"{proposal.id} {proposal.status}: {proposal.made_by}: {proposal.reason}"))
    try:
        act = act_of(proposal)
    except NotShownError as error:
        typer.echo(f"  not to be signed: {shown(error)}")
    else:
        for line in (f"{act.kind} of {act.subject}", *described(act)):
            typer.echo(shown(f"  {line}"))
    typer.echo(shown(f"  {proposal.shown or 'signed by nobody'}"))


def _term(entry: str) -> tuple[str, str]:
    name, equals, value = entry.partition("=")
    if not equals:
        raise typer.BadParameter(f"{entry}: as in currency=EUR", param_hint="--term")
    return name, value


def _as_operator(work: Callable[..., Awaitable[Any]], coordinator: str, bic: str, client: str, key: Path) -> Any:
    from compliance.crypto.keys import SigningKey
    from gateway.federation.http.client import FederationClient, RemoteError
    from gateway.federation.identity.deciding import DecidingKey

    try:
        own = SigningKey.load(key)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--key") from error

    async def run() -> Any:
        url = coordinator.rstrip("/")
        async with FederationClient(client, own, url) as http:
            return await work(http, DecidingKey(operator=client, coordinator=bic, key=own), url)

    try:
        return asyncio.run(run())
    except RemoteError as error:
        typer.echo(f"concordat: {explained(error)}", err=True)
        raise typer.Exit(1) from error
