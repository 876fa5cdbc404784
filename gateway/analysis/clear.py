"""The command `concordat clear`: debts in a file, what of them cancels out, and the proof that no more does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.analysis.command import FormatOption, InputFile, OutputOption, refusing, write
from gateway.analysis.progress import Progress

if TYPE_CHECKING:
    from gateway.analysis.documents import Document
    from gateway.analysis.files import Read
    from netting.clearing import Clearing, Discharge
    from netting.queue import Payment

_NAMELESS = "\0"
"""How the id begins that stands for none: no id of a file has such a character."""


def clear(
    file: InputFile,
    pre_net_pairs: Annotated[
        bool, typer.Option("--pre-net-pairs", help="Set off what two banks owe each other before longer rings.")
    ] = False,
    non_conservative: Annotated[
        bool, typer.Option("--non-conservative", help="Replace all debts by new ones, perhaps between other banks.")
    ] = False,
    format_: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Clear debts against each other: the most that can be discharged without money, or with the money there is.

    The file is that of `concordat net`. "balances" in JSON is money that may be used: {"A": 3}, or by currency
    {"A": {"EUR": 3}}. Of what one bank owes another, the more urgent is discharged first (a smaller "priority"), then
    the older (a smaller "sequence"), then by "id". Limits, reserved money, windows, holds and links aren't looked at.

    Every debt only shrinks, nobody gets a new counterparty, and without money nobody's net changes. With
    --non-conservative the largest net debtor owes the largest net creditor, again and again, until all nets are as they
    were: that is the least gross there can be.

    For each currency the answer has "gross", how much of it is "cleared", how much of that pairs "offset" first,
    "least" (what no clearing without money gets below), the "discharges" of all obligations, the "residual" debts, and
    the "savings": what each bank owes and is owed "before" and "after", and the money that it "paid" (below zero:
    received). "potentials" prove that no more can be cleared, and were checked. The answer depends on the set of
    obligations, the balances and the options alone, to the byte.

    Exit code 2: the input is refused, with its reason and place.
    """
    if pre_net_pairs and non_conservative:
        raise typer.BadParameter("debts that are all replaced have no pairs to set off", param_hint="--pre-net-pairs")
    with refusing():
        write(output, _answer(file, format_, pre_net_pairs=pre_net_pairs, conservative=not non_conservative))


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(clear)


def _answer(file: str, form: str | None, *, pre_net_pairs: bool, conservative: bool) -> bytes:
    from compliance.crypto import canonical
    from gateway.analysis.documents import collect, read_document
    from gateway.analysis.files import InputReason
    from gateway.analysis.queues import LimitsOf
    from netting import clearing

    with Progress() as progress:
        read = read_document(file, form=form, progress=progress)
        currencies = collect(read).currencies
        money = LimitsOf(read, list(currencies)).liquidity()
        if money and not conservative:
            detail = "debts that are all replaced are replaced without money"
            raise read.refused(InputReason.FIELD_INVALID, member="balances", detail=detail)
        debts = _debts(read)
        with progress.ticking(f"clearing {len(debts):,} obligations"):
            found = clearing.clear(debts, liquidity=money, pre_net_pairs=pre_net_pairs, conservative=conservative)
            clearing.check(found, debts, liquidity=money, pre_net_pairs=pre_net_pairs, conservative=conservative)
    return canonical.encode({"currencies": [_currency(one) for one in found]}) + b"\n"


def _debts(read: Read[Document]) -> list[Payment]:
    """Return what `collect` has found to be good, as debts with ids. What has none is numbered by what it says."""
    from gateway.analysis.documents import entries
    from netting.queue import Payment

    told = sorted(
        (one.id or "", one.from_, one.to, int(one.amount), one.currency, one.priority, one.sequence or 0)
        for one in entries(read)[1]
    )
    return [
        Payment(name or f"{_NAMELESS}{at}", debtor, creditor, amount, currency, priority, sequence)
        for at, (name, debtor, creditor, amount, currency, priority, sequence) in enumerate(told)
    ]


def _currency(one: Clearing) -> dict[str, Any]:
    from netting.explain import share

    proof = {"potentials": dict(one.potentials)} if one.potentials else {}
    return proof | {
        "currency": one.currency,
        "obligations": len(one.discharges),
        "gross": one.gross,
        "cleared": one.cleared,
        "cleared_bp": share(one.cleared, one.gross),
        "offset": one.offset,
        "least": one.least,
        "discharges": [_discharge(done) for done in one.discharges],
        "residual": [{"from": debt.debtor, "to": debt.creditor, "amount": debt.amount} for debt in one.residual],
        "savings": [
            {
                "participant": of.participant,
                "before": of.before,
                "after": of.after,
                "saving": of.before - of.after,
                "paid": of.paid,
            }
            for of in one.savings
        ],
    }


def _discharge(done: Discharge) -> dict[str, Any]:
    named = {} if done.id.startswith(_NAMELESS) else {"id": done.id}
    return named | {"from": done.debtor, "to": done.creditor, "cleared": done.cleared, "residual": done.residual}
