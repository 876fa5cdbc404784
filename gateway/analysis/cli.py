"""The command `concordat net`: an analyst's files in, figures out.

It loads neither a web framework nor a database, and the compiled kernels only for many obligations.
"""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.analysis.command import CreditNotes, FormatOption, InputFile, OutputOption, refusing, write


def net(
    file: InputFile,
    format_: FormatOption = None,
    explain: Annotated[
        str | None, typer.Option(metavar="BANK", help="Say in words why this bank's nets are what they are.")
    ] = None,
    top: Annotated[
        int, typer.Option(help="Counterparties that --explain names, the largest first; 0 names all.", min=0)
    ] = 0,
    plan: Annotated[bool, typer.Option("--plan", help="Add how to settle: through one account, and directly.")] = False,
    output: OutputOption = None,
    credit_notes: CreditNotes = False,
) -> None:
    """Net obligations: gross, bilateral and multilateral figures for each currency, positions and pairs, as JSON.

    JSON is {"obligations": [{"id": "T1", "from": "A", "to": "B", "amount": 5, "currency": "EUR"}]}; "id" and
    "currency" may be left out, "payments" is another name for "obligations", and with "participants": ["A", "B"]
    any other bank is refused. What `concordat gridlock` and `concordat advise` read is accepted. CSV has the columns
    from, to, amount and perhaps id and currency, in any order. Amounts are whole minor units, of up to 38 digits.

    --plan adds to each currency a "plan" that settles it. "value" is what has to move. "through_account" says what each
    bank pays in, and then what each is paid out; "direct" has "transfers" from bank to bank, the fewest that were
    found: no plan has fewer than "lower_bound", "gap" is how many more these are, and "why" says what proves it.

    The answer depends on the set of obligations alone, to the byte. Exit code 2: the input is refused, with
    its reason and place.
    """
    if plan and explain is not None:
        raise typer.BadParameter("a plan belongs to the figures, which --explain puts in words", param_hint="--plan")
    with refusing():
        write(output, _answer(file, format_, explain, top, planned=plan, credit_notes=credit_notes))


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(net)


def _answer(
    file: str, form: str | None, bank: str | None, top: int, *, planned: bool = False, credit_notes: bool = False
) -> bytes:
    from gateway.analysis import figures
    from gateway.analysis.documents import collect, read_document
    from gateway.analysis.files import InputRefusedError
    from gateway.federation.commands.progress import Progress
    from netting.model import ObligationReason
    from netting.multilateral import net_batch

    with Progress() as progress:
        batch = collect(read_document(file, form=form, credit_notes=credit_notes, progress=progress))
        nettings = net_batch(batch)
    if bank is None:
        return figures.document(nettings, planned=planned)
    if bank not in batch.participants:
        raise InputRefusedError(ObligationReason.UNKNOWN_PARTICIPANT, file, at="--explain", detail=bank)
    return figures.explanation(nettings, bank, top=top)
