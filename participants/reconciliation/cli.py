"""The command `concordat participant reconcile`: compare the books with another bank's, and see what came of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from compliance.terminal import shown
from gateway.federation.commands.failures import explained
from participants.bank_client import ORDERS, Bank, ClientKey, ClientName, DataDir, Subject, Url, bank_client, bank_of

if TYPE_CHECKING:
    from participants.reconciliation.breaks import Break
    from participants.reconciliation.report import Report
    from participants.reconciliation.store import Reconciliation

SAME, BREAKS, NOT_COMPARED = 0, 1, 2
"""Exit codes."""
LOOK_SECONDS = 0.3


def register(app: typer.Typer) -> None:
    """Add the command to `concordat participant`."""
    app.command("reconcile")(reconcile)


def reconcile(
    counterparty: Annotated[str, typer.Argument(help="The other bank's BIC.")],
    url: Url,
    bank: Bank,
    client: ClientName = None,
    key: ClientKey = None,
    data_dir: DataDir = None,
    subject: Subject = None,
    currency: Annotated[str | None, typer.Option(help="Only payments in this currency; all if absent.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what the API says, as JSON.")] = False,
) -> None:
    """Compare what this bank and another one hold of the payments between them.

    A line for each lane and each break, and what it cost. Exit code 1 if there are breaks, 2 if the other bank can't be
    asked or contradicts itself.
    """
    name, other = bank_of(bank), bank_of(counterparty)
    signed_in = bank_client(ORDERS, url=url, client=client, key=key, data_dir=data_dir, subject=subject)

    async def ask() -> Reconciliation:
        from participants.reconciliation.store import Reconciliation

        async with signed_in:
            base = f"{url.rstrip('/')}/reconciliations"
            asked = {"counterparty": other} | ({} if currency is None else {"currency": currency})
            known = await signed_in.post(base, Reconciliation, audience=name, json=asked)
            while known.state in ("asked", "running"):
                await asyncio.sleep(LOOK_SECONDS)
                known = await signed_in.get(f"{base}/{known.id}", Reconciliation, audience=name)
            return known

    from gateway.federation.http.client import RemoteError

    try:
        known = asyncio.run(ask())
    except RemoteError as error:
        typer.echo(f"refused: {explained(error)}", err=True)
        raise typer.Exit(NOT_COMPARED) from error
    if json:
        import msgspec

        typer.echo(msgspec.json.encode(known).decode())
    elif known.report is not None:
        _print(known.report)
    if known.state != "done" or known.report is None:
        typer.echo(shown(f"not compared: {known.reason}"), err=True)
        raise typer.Exit(NOT_COMPARED)
    raise typer.Exit(BREAKS if known.report.breaks else SAME)


def _print(report: Report) -> None:
    for lane in report.lanes:
        typer.echo(
            shown(
                f"{lane.sender} to {lane.receiver} {lane.currency}: {lane.here:,} here, {lane.there:,} there,"
                f" {lane.differences:,} differ by number ({lane.way})"
            )
        )
    for item in report.breaks:
        typer.echo(shown(_line(item)))
    if not report.is_whole:
        typer.echo("There are more; those listed come first.")
    cost = report.cost
    typer.echo(
        f"{cost.questions} questions, {cost.sent_bytes:,} bytes sent, {cost.received_bytes:,} received,"
        f" {cost.seconds:g} s"
    )


def _line(item: Break) -> str:
    ways = []
    for where, record in (("here", item.here), ("there", item.there)):
        ways.append(
            f"{where} unknown"
            if record is None
            else f"{where} {record.status} {record.amount_minor} {record.currency} as {record.sequence or 'no number'}"
        )
    more = {
        "heals": item.healing,
        "contested by": item.contested_by,
        "the same as": item.twin,
        "cycle here": item.cycle_here,
        "cycle there": item.cycle_there,
    }
    notes = [f"{name} {value}" for name, value in more.items() if value is not None]
    return f"{item.kind}: {item.payment}, " + ", ".join([*ways, *notes])
