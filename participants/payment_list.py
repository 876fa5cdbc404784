"""The commands `concordat participant payments` and `payment`: find payments, and hear why one isn't settled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compliance.terminal import shown
from gateway.federation.commands.failures import explained
from participants.bank_client import (
    SEES_PAYMENTS,
    Bank,
    ClientKey,
    ClientName,
    DataDir,
    Subject,
    Url,
    bank_client,
    bank_of,
)

if TYPE_CHECKING:
    from gateway.federation.http.client import FederationClient
    from participants.api.messages import CyclePayments, PaymentPage, PaymentView

REFUSED, UNREACHABLE = 2, 1
"""Exit codes: what is asked for isn't taken, and the bank doesn't answer or lets nobody in."""

_Instant = Annotated[str | None, typer.Option(help="An instant such as 2026-11-28T15:30:00Z.")]
_Minor = Annotated[int | None, typer.Option(min=0, help="In minor units.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `concordat participant`."""
    app.command("payments")(payments)
    app.command("payment")(payment)


def payments(
    url: Url,
    bank: Bank,
    client: ClientName = None,
    key: ClientKey = None,
    data_dir: DataDir = None,
    subject: Subject = None,
    cycle: Annotated[str | None, typer.Option(help="What this cycle settled, lane by lane.")] = None,
    status: Annotated[list[str] | None, typer.Option(help="Only these; repeat it.")] = None,
    direction: Annotated[str | None, typer.Option(help="`in` or `out`.")] = None,
    account: Annotated[str | None, typer.Option(help="An account of this bank.")] = None,
    counterparty: Annotated[str | None, typer.Option(help="The other bank's BIC.")] = None,
    currency: Annotated[str | None, typer.Option()] = None,
    amount_from: _Minor = None,
    amount_to: _Minor = None,
    created_from: _Instant = None,
    created_to: _Instant = None,
    updated_from: _Instant = None,
    updated_to: _Instant = None,
    end_to_end_id: Annotated[str | None, typer.Option()] = None,
    instruction_id: Annotated[str | None, typer.Option()] = None,
    uetr: Annotated[str | None, typer.Option()] = None,
    batch: Annotated[str | None, typer.Option(help="The id of a batch.")] = None,
    file: Annotated[str | None, typer.Option(help="The name of a file that was imported.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = 100,
) -> None:
    """List payments that match all that is asked for, refused orders too; or what a cycle settled.

    The newest comes first; what changed last, where a time of change is asked for; and of a batch or file each payment
    once, in the order of its lines. A line has the time, the way, the other bank, the amount, the status, whether it is
    settled, and the id.
    """
    asked: dict[str, Any] = {
        "direction": direction,
        "counterparty": counterparty,
        "currency": currency,
    }
    others: dict[str, Any] = {
        "status": status or None,
        "account": account,
        "amount_from": None if amount_from is None else str(amount_from),
        "amount_to": None if amount_to is None else str(amount_to),
        "created_from": created_from,
        "created_to": created_to,
        "updated_from": updated_from,
        "updated_to": updated_to,
        "end_to_end_id": end_to_end_id,
        "instruction_id": instruction_id,
        "uetr": uetr,
        "batch": batch,
        "file": file,
    }
    if cycle is None:
        asked |= others
    elif given := [name for name, value in others.items() if value is not None]:
        raise typer.BadParameter(f"not together with --cycle: {', '.join(given)}")
    path = "/payments" if cycle is None else f"/cycles/{cycle}/payments"

    async def run(signed_in: FederationClient, name: str) -> None:
        from participants.api.messages import CyclePayments, PaymentPage

        kind: type[CyclePayments | PaymentPage] = PaymentPage if cycle is None else CyclePayments
        left, lists = limit, f"{url.rstrip('/')}{path}"
        until: str | None = None
        async for page in signed_in.pages(lists, kind, audience=name, params=asked):
            until = until or getattr(page, "detached_until", None)
            for item in page.items[:left]:
                typer.echo(_line(item))
            left -= len(page.items)
            if left <= 0:
                break
        if until is not None:
            typer.echo(shown(f"payments that ended before {until} may be archived, and aren't listed"), err=True)

    _ask(run, url=url, bank=bank, client=client, key=key, data_dir=data_dir, subject=subject)


def payment(
    payment_id: Annotated[str, typer.Argument(help="The payment's id.")],
    url: Url,
    bank: Bank,
    client: ClientName = None,
    key: ClientKey = None,
    data_dir: DataDir = None,
    subject: Subject = None,
) -> None:
    """Show a payment: how it stands, whether it is settled or why not, and what happened to it.

    Also how much of it is given back and by which payments, and what became of its recalls.
    """

    from uuid import UUID

    try:
        UUID(payment_id)
    except ValueError:
        raise typer.BadParameter(
            f"{payment_id!a} is no payment's id, which is a UUID", param_hint="PAYMENT_ID"
        ) from None

    async def run(signed_in: FederationClient, name: str) -> None:
        from participants.api.messages import PaymentView

        view = await signed_in.get(f"{url.rstrip('/')}/payments/{payment_id}", PaymentView, audience=name)
        typer.echo(_line(view))
        references = (("end to end", view.end_to_end_id), ("instruction", view.instruction_id), ("UETR", view.uetr))
        for what, reference in (*references, ("reason", view.reason), ("returns", view.returns)):
            if reference is not None:
                typer.echo(shown(f"{what}: {reference}"))
        if view.settlement is not None:
            typer.echo(shown(f"settlement: {view.settlement.explanation}"))
        for line in _given_back(view):
            typer.echo(shown(line))
        for event in view.history:
            more = event.reason or event.cycle or event.returned_by or event.sequence
            typer.echo(shown(f"{event.at} {event.type}" + ("" if more is None else f" ({more})")))

    _ask(run, url=url, bank=bank, client=client, key=key, data_dir=data_dir, subject=subject)


def _given_back(view: PaymentView) -> Iterator[str]:
    """Yield what is given back of a payment, and how often it was asked for back."""
    from gateway.federation.money import format_minor

    if view.returned_minor is not None:
        given = format_minor(int(view.returned_minor), view.currency)
        yield f"given back: {given} of {format_minor(int(view.amount_minor), view.currency)} {view.currency}"
    for part in view.given_back:
        yield f"  {format_minor(int(part.amount_minor), view.currency)} {view.currency} by {part.by}"
    for recall in view.recalls:
        said = (recall.text, recall.state, recall.refusal, recall.refusal_text)
        by = f", by {recall.returned_by}" if recall.returned_by else ""
        yield f"recall {recall.id}: {recall.reason}: {', '.join(word for word in said if word)}{by}"


def _ask(run: Any, *, url: str, bank: str, **who: Any) -> None:
    """Sign in and ask; ends the command with what went wrong."""
    from gateway.federation.http.client import RemoteError, RemoteProblem

    name = bank_of(bank)

    async def signed_in() -> None:
        async with bank_client(SEES_PAYMENTS, url=url.rstrip("/"), **who) as client:
            await run(client, name)

    try:
        asyncio.run(signed_in())
    except RemoteError as error:
        typer.echo(explained(error), err=True)
        refused = isinstance(error, RemoteProblem) and error.status in (400, 404, 422)
        raise typer.Exit(REFUSED if refused else UNREACHABLE) from None


def _line(item: PaymentView) -> str:
    from gateway.federation.money import format_minor

    amount = format_minor(int(item.amount_minor), item.currency)
    way = "to  " if item.direction == "out" else "from"
    state = "" if item.settlement is None else item.settlement.state
    settled = "" if item.settlement is None or item.settlement.cycle is None else f" {item.settlement.cycle}"
    line = f"{item.created_at} {way} {item.counterparty:<11} {amount:>18} {item.currency} {item.status:<9}"
    return shown(f"{line} {state + settled:<26} {item.id}")
