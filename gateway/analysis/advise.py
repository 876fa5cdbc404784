"""The command `concordat advise`: obligations of the past, and how many cycles a day would have suited them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.analysis.command import FormatOption, InputFile, OutputOption, refusing, write
from gateway.federation.commands.progress import Progress
from netting.advice import CANDIDATES, DAY_S

if TYPE_CHECKING:
    from gateway.analysis.documents import Document
    from gateway.analysis.files import SourceDocument
    from netting.advice import Curve, Point, TimedObligation

_TIMESTAMP = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]((?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])(?:\.[0-9]+)?"
    r"([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
"""RFC 3339, section 5.6. A day ends before 24:00, and there are no leap seconds."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def advise(
    file: InputFile,
    cycles: Annotated[
        list[int] | None,
        typer.Option(
            help=f"A number of cycles a day to try, once for each; {', '.join(map(str, CANDIDATES))} if absent.", min=1
        ),
    ] = None,
    opens_at: Annotated[
        int, typer.Option(help="When a day begins, in seconds after time 0: for timestamps, after midnight UTC.")
    ] = 0,
    day: Annotated[int, typer.Option(help="How many seconds a day has.", min=1)] = DAY_S,
    format_: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Say what netting saves and how long obligations wait for each number of cycles a day, and which serves both.

    The file is that of `concordat net`, with a "time" for every obligation: whole seconds from any one moment, or RFC
    3339 timestamps such as 2026-03-02T09:30:00Z (a fraction of a second is cut off), but not both. From then on it is
    owed, and it settles at the end of the cycle that it falls into.

    For each currency the answer has the "points" of the curve: for "cycles_a_day" what had to be "settled", the
    "saving" to the gross value, the "mean_wait_s" in whole seconds, by value, and the "peak_net_debit", the most that
    any bank owed in one cycle. "knee" is the number that serves both, "words" say what it means, "criterion" how it was
    chosen; "monotone" is whether fewer cycles always saved as much or more. The answer depends on the obligations
    and the options alone, to the byte.

    Exit code 2: the input is refused, with its reason and place.
    """
    numbers = cycles or list(CANDIDATES)
    if len(set(numbers)) < len(numbers):
        raise typer.BadParameter("a number is named twice", param_hint="--cycles")
    with refusing():
        write(output, _answer(file, format_, numbers, opens_at=opens_at, day=day))


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(advise)


def _answer(file: str, form: str | None, cycles: Sequence[int], *, opens_at: int, day: int) -> bytes:
    from compliance.crypto import canonical
    from gateway.analysis.documents import collect, read_document
    from netting import advice

    with Progress() as progress:
        source = read_document(file, form=form, progress=progress)
        collect(source)
        obligations = list(_timed_obligations(source))
        with progress.ticking(f"trying {len(cycles)} timetables on {len(obligations):,} obligations"):
            curves = advice.advise(obligations, candidates=cycles, day_s=day, opens_at_s=opens_at)
    return canonical.encode({"currencies": [_currency(curve) for curve in curves]}) + b"\n"


def _timed_obligations(source: SourceDocument[Document]) -> Iterator[TimedObligation]:
    """Yield what `collect` has found to be good with its time in seconds. Raises InputRefusedError."""
    from gateway.analysis.documents import entries
    from gateway.analysis.files import InputReason, minor_units
    from netting.advice import TimedObligation

    member, obligations = entries(source)
    kinds: set[bool] = set()
    for index, entry in enumerate(obligations):
        if entry.time is None:
            detail = "advice needs to know since when it has been owed"
            raise source.refused(InputReason.FIELD_INVALID, member=member, index=index, at="time", detail=detail)
        seconds = minor_units(entry.time)
        kinds.add(seconds is not None)
        if seconds is None:
            seconds = _unix_seconds(str(entry.time))
        if seconds is None or len(kinds) > 1:
            detail = (
                repr(entry.time)[:100] if seconds is None else "some times are whole seconds, others are timestamps"
            )
            raise source.refused(InputReason.TIME_MALFORMED, member=member, index=index, at="time", detail=detail)
        yield TimedObligation(entry.currency, seconds, entry.from_, entry.to, int(entry.amount))


def _unix_seconds(text: str) -> int | None:
    """Return an RFC 3339 timestamp in whole seconds since 1970, rounded down; None if it isn't one."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    date, time, offset = match.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{time}{'+00:00' if offset in 'Zz' else offset}")
    except ValueError:
        return None
    since = moment - _EPOCH
    return since.days * 86_400 + since.seconds


def _currency(curve: Curve) -> dict[str, Any]:
    at_knee = next(point for point in curve.points if point.cycles_a_day == curve.knee)
    return {
        "currency": curve.currency,
        "gross": curve.gross,
        "knee": curve.knee,
        "words": _words(at_knee, curve.gross),
        "criterion": curve.criterion,
        "monotone": curve.monotone,
        "points": [_point(point, curve.gross) for point in curve.points],
    }


def _point(point: Point, gross: int) -> dict[str, int]:
    from netting.explain import share

    return {
        "cycles_a_day": point.cycles_a_day,
        "settled": point.settlement_value,
        "saving": point.saving,
        "saving_bp": share(point.saving, gross),
        "mean_wait_s": point.mean_wait_s,
        "peak_net_debit": point.peak_net_debit,
    }


def _words(point: Point, gross: int) -> str:
    from netting.explain import share

    cycles = "one cycle a day saves" if point.cycles_a_day == 1 else f"{point.cycles_a_day} cycles a day save"
    whole, hundredths = divmod(share(point.saving, gross), 100)
    minutes, seconds = divmod(point.mean_wait_s, 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{cycles} {point.saving} of {gross} ({whole}.{hundredths:02} %); value waits "
        f"{hours}:{minutes:02}:{seconds:02} on average, and no bank owes more than {point.peak_net_debit} in one cycle"
    )
