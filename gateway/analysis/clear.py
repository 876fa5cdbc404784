"""The command `concordat clear`: debts in a file, what of them cancels out, and the proof that no more does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.analysis.command import CreditNotes, FormatOption, InputFile, OutputOption, refusing, write
from gateway.federation.commands.progress import Progress

if TYPE_CHECKING:
    from gateway.analysis.documents import Document
    from gateway.analysis.files import SourceDocument
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
    credit_notes: CreditNotes = False,
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
        answer = _answer(
            file,
            format_,
            pre_net_pairs=pre_net_pairs,
            conservative=not non_conservative,
            credit_notes=credit_notes,
        )
        write(output, answer)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(clear)


def _answer(file: str, form: str | None, *, pre_net_pairs: bool, conservative: bool, credit_notes: bool) -> bytes:
    from compliance.crypto import canonical
    from gateway.analysis.documents import collect, read_document
    from gateway.analysis.files import InputReason
    from gateway.analysis.queues import LimitsReader
    from netting.clearing import check
    from netting.clearing import clear as clear_debts

    with Progress() as progress:
        source = read_document(file, form=form, credit_notes=credit_notes, progress=progress)
        currencies = collect(source).currencies
        money = LimitsReader(source, list(currencies)).liquidity()
        if money and not conservative:
            detail = "debts that are all replaced are replaced without money"
            raise source.refused(InputReason.FIELD_INVALID, member="balances", detail=detail)
        debts = _debts(source)
        with progress.ticking(f"clearing {len(debts):,} obligations"):
            clearings = clear_debts(debts, liquidity=money, pre_net_pairs=pre_net_pairs, conservative=conservative)
            check(clearings, debts, liquidity=money, pre_net_pairs=pre_net_pairs, conservative=conservative)
    return canonical.encode({"currencies": [_currency(clearing) for clearing in clearings]}) + b"\n"


def _debts(source: SourceDocument[Document]) -> list[Payment]:
    """Return what `collect` has found to be good, as debts with ids. What has none is numbered by what it says."""
    from gateway.analysis.documents import entries
    from netting.queue import Payment

    rows = sorted(
        (entry.id or "", entry.from_, entry.to, int(entry.amount), entry.currency, entry.priority, entry.sequence or 0)
        for entry in entries(source)[1]
    )
    return [
        Payment(name or f"{_NAMELESS}{at}", debtor, creditor, amount, currency, priority, sequence)
        for at, (name, debtor, creditor, amount, currency, priority, sequence) in enumerate(rows)
    ]


def _currency(clearing: Clearing) -> dict[str, Any]:
    from netting.explain import share

    proof = {"potentials": dict(clearing.potentials)} if clearing.potentials else {}
    return proof | {
        "currency": clearing.currency,
        "obligations": len(clearing.discharges),
        "gross": clearing.gross,
        "cleared": clearing.cleared,
        "cleared_bp": share(clearing.cleared, clearing.gross),
        "offset": clearing.offset,
        "least": clearing.least,
        "discharges": [_discharge(discharge) for discharge in clearing.discharges],
        "residual": [{"from": debt.debtor, "to": debt.creditor, "amount": debt.amount} for debt in clearing.residual],
        "savings": [
            {
                "participant": saving.participant,
                "before": saving.before,
                "after": saving.after,
                "saving": saving.before - saving.after,
                "paid": saving.paid,
            }
            for saving in clearing.savings
        ],
    }


def _discharge(discharge: Discharge) -> dict[str, Any]:
    identity = {} if discharge.id.startswith(_NAMELESS) else {"id": discharge.id}
    return identity | {
        "from": discharge.debtor,
        "to": discharge.creditor,
        "cleared": discharge.cleared,
        "residual": discharge.residual,
    }
