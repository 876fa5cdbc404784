"""The command `concordat gridlock`: a queue in a file, what settles now, and the proof that little more could."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gateway.analysis.command import FormatOption, InputFile, OutputOption, refusing, write
from gateway.federation.commands.progress import Progress
from netting.gridlock import WORK, resolve

if TYPE_CHECKING:
    from gateway.analysis.queues import Queues

NOT_PROVEN = 1
"""Exit code: a certificate doesn't prove what it says."""


def gridlock(
    file: InputFile,
    mode: Annotated[
        Literal["optimal", "fifo"],
        typer.Option(help="The most value, or the longest beginnings of all queues that settle together."),
    ] = "optimal",
    work: Annotated[
        int, typer.Option(help="Where the search ends, in looks at numbers: never in seconds.", min=1)
    ] = WORK,
    at: Annotated[
        int | None, typer.Option(help="The moment that earliest and latest are compared with; the file's if absent.")
    ] = None,
    limits: Annotated[
        str | None, typer.Option(metavar="FILE", help="A second file, JSON or CSV, with the balances and limits.")
    ] = None,
    format_: FormatOption = None,
    certificate: Annotated[
        Path | None, typer.Option(help="Where to write the proof of the upper bound.", dir_okay=False)
    ] = None,
    check: Annotated[
        str | None, typer.Option(metavar="CERT", help="Check this proof for the file instead of resolving it.")
    ] = None,
    output: OutputOption = None,
) -> None:
    """Choose which queued payments settle now, within all limits at once, and prove how far from the best that is.

    JSON is {"balances": {"A": 3, "B": 4}, "payments": [{"id": "T1", "from": "A", "to": "B", "amount": 5}]}, in minor
    units; an account without a balance has 0. A payment may have "currency", "priority" (a smaller one is more urgent),
    "sequence" (a smaller one is older), "earliest" and "latest", "held", "split" (a part may settle) and "link" (the id
    of a payment that it settles together with).

    Beside "payments" there may be "limits" (how far below zero a bank may go; null: without limit), "default_limit"
    (0), "reserved" with "urgent" (what only payments up to this priority may use), "bilateral": [{"from": "A",
    "to": "B", "limit": 9}], "aggregate": {"rates": {"EUR": 1}, "haircuts_ppm": {}, "limits": {"A": 5}} over several
    currencies, "participants" and "at". Balances, limits and reserved amounts may be by currency: {"A": {"EUR": 3}}.
    Currencies are resolved each on its own, unless "aggregate" gives rates.

    CSV has the columns id, from, to, amount and perhaps those named above; --limits then gives the rest: JSON as above
    without the payments, or CSV with participant, currency, balance, limit (may be "unlimited"), reserved.

    The answer says what is "settled" (and "parts" of which payments), its "value" and "count", the "upper_bound" that
    no selection exceeds, the "gap" to it, and "balances" after. It depends on the set of payments, the limits, the mode
    and the work alone, to the byte.

    Exit code 1: the certificate doesn't hold. 2: the input is refused, with its reason and place.
    """
    if [file, limits, check].count("-") > 1:
        raise typer.BadParameter("only one file can be standard input")
    if check is not None and certificate is not None:
        raise typer.BadParameter("a certificate is either written or checked", param_hint="--check")
    with refusing():
        queues = _queues(file, limits, format_)
        moment = queues.at if at is None else at
        if check is not None:
            write(output, _checked(queues, check, moment))
            return
        answer, proof = _resolved(queues, mode, work, moment, proven=certificate is not None)
        if certificate is not None:
            write(certificate, proof)
        write(output, answer)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(gridlock)


def _queues(file: str, limits: str | None, form: str | None) -> Queues:
    from gateway.analysis import queues
    from gateway.analysis.documents import read_document
    from gateway.analysis.files import read_records

    with Progress() as progress:
        source = read_document(file, form=form, progress=progress)
        if limits is None:
            return queues.collect_queues(source)
        limits_source = read_records(limits, queues.LimitsFile, rows=queues.ROWS, row_kind=queues.AccountRow)
        return queues.collect_queues(source, limits_source)


def _resolved(
    queues: Queues, mode: Literal["optimal", "fifo"], work: int, at: int | None, *, proven: bool
) -> tuple[bytes, bytes]:
    """Return the answer, and the proof where one is asked for."""
    from gateway.analysis import proofs, resolutions

    results = []
    for queue in queues.parts:
        with Progress() as progress, progress.ticking(f"resolving {len(queue.payments):,} payments"):
            results.append(resolve(queue.payments, queue.limits, mode=mode, work=work, at=at))
    proof = proofs.document(queues.parts, [resolution.certificate for resolution in results], at) if proven else b""
    return resolutions.document(queues.parts, results), proof


def _checked(queues: Queues, certificate: str, at: int | None) -> bytes:
    from gateway.analysis import proofs
    from netting.liquidity.certificate import CertificateError

    proof_file = proofs.read_proofs(certificate)
    try:
        with Progress() as progress, progress.ticking("checking the certificate"):
            proofs.check_proofs(queues.parts, proof_file, at)
    except CertificateError as error:
        typer.echo(f"concordat: {certificate}: the certificate doesn't hold: {error}", err=True)
        raise typer.Exit(NOT_PROVEN) from error
    lines = []
    for queue, proof in zip(queues.parts, proof_file.proofs, strict=True):
        of = f" of {queue.currency}" if len(queues.parts) > 1 and queue.currency else ""
        lines.append(f"holds: no selection{of} is worth more than {proof.upper_bound}\n")
    return "".join(lines).encode()
