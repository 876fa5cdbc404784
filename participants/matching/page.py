"""An outcome as one HTML page: charts, sums and breaks, with nothing to load and no scripts.

Whatever comes from a file is shown as text: characters that steer or can't be seen are written out, and then all of it
is escaped. The page's own policy forbids everything that it has no need of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from html import escape

from compliance.terminal import shown
from gateway.federation.money import format_minor
from participants.matching import charts
from participants.matching.explanation import Document, Explanation
from participants.matching.outcome import Outcome

BREAKS_MAX = 5_000
"""More make a page that no browser likes; --json has all."""
TEXT_CHARACTERS_MAX = 200
DAYS_MAX = 400

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --dim: #5b6b7b; --line: #d5dde5; --bar: #2f6fb3; --paper: #fff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4eaf0; --dim: #9fb0c0; --line: #34424f; --bar: #6ea8e0; --paper: #14191f } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem } p, figcaption { color: var(--dim) }
figure { margin: 1rem 0; max-width: 46rem } svg { width: 100%; height: auto }
svg text { font-size: 13px; fill: var(--ink) } svg text.note { fill: var(--dim) } svg rect { fill: var(--bar) }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: 13px }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top }
th { position: sticky; top: 0; background: var(--paper) } td.sum { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums } td.text { overflow-wrap: anywhere } b { font-size: 1.5rem; display: block }
.figures { display: flex; flex-wrap: wrap; gap: 2.5rem } .figures span { color: var(--dim) }
"""


def page(outcome: Outcome) -> Iterator[str]:
    """Yield the page in pieces."""
    matching = outcome.matching
    yield (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Reconciliation</title><style>{_STYLE}</style></head><body>\n<h1>Reconciliation</h1>\n"
    )
    for name, rows in (("A", matching.a), ("B", matching.b)):
        yield f"<p>{name}: {_text(rows.table.name)}, {len(rows.amount):,} rows</p>\n"
    yield f'<div class="figures"><div><b>{outcome.matches:,}</b><span>matches</span></div>'
    yield f"<div><b>{len(outcome.breaks):,}</b><span>breaks</span></div></div>\n"
    yield from _charts(outcome)
    yield from _sums(outcome)
    yield from _breaks(outcome)
    yield "</body></html>\n"


def _charts(outcome: Outcome) -> Iterator[str]:
    if outcome.by_kind:
        figures = [(kind.value, count, f"{count:,}") for kind, count in outcome.by_kind.items()]
        yield charts.bars("Breaks by kind", figures) + "\n"
    days = _days(outcome)
    if days:
        yield charts.columns("Breaks by value date", days) + "\n"
    passes = [(label, count, f"{count:,}") for label, (count, _) in outcome.by_pass.items() if count]
    if passes:
        yield charts.bars("Matches by pass, from certain to likely", passes) + "\n"
    for label, count in outcome.matching.not_tried.items():
        yield f"<p>{count:,} rows were too many alike to be tried by {_text(label)}.</p>\n"


def _days(outcome: Outcome) -> list[tuple[str, int]]:
    """Return how many breaks there are by the day of their first row, the last DAYS_MAX of them."""
    matching = outcome.matching
    counts: Counter[str] = Counter()
    for rows, places in (
        (matching.a, [item.a[0] for item in outcome.breaks if item.a]),
        (matching.b, [item.b[0] for item in outcome.breaks if not item.a]),
    ):
        dates = rows.table.rows["value_date"].gather(places).drop_nulls()
        counts.update(date.isoformat() for date in dates.to_list())
    return sorted(counts.items())[-DAYS_MAX:]


def _sums(outcome: Outcome) -> Iterator[str]:
    yield "<h2>Sums</h2><p>What A has more than B is what breaks and what matches differ by.</p>\n"
    rows = []
    for code, sums in outcome.sums.items():
        figures = (sums.a, sums.b, sums.difference, sums.of_breaks, sums.of_matches)
        rows.append("".join((_cell(code), *(_cell(format_minor(figure, code), "sum") for figure in figures))))
    yield _table(("currency", "A", "B", "A - B", "of breaks", "of matches"), rows)


def _breaks(outcome: Outcome) -> Iterator[str]:
    breaks = outcome.breaks[:BREAKS_MAX]
    if not breaks:
        yield "<h2>Breaks</h2><p>None.</p>\n"
        return
    yield "<h2>Breaks</h2>\n"
    if len(outcome.breaks) > len(breaks):
        yield f"<p>The first {len(breaks):,} of {len(outcome.breaks):,}; <code>--json</code> lists all.</p>\n"
    explanation = Explanation(outcome, breaks)
    rows = []
    for item in breaks:
        a, b = explanation.rows(item)
        difference = explanation.difference(item)
        cells = (
            _cell(item.kind.value),
            _cell(explanation.reference(item) or "", "text"),
            _cell(_side(a), "sum"),
            _cell(_side(b), "sum"),
            _cell("" if difference is None else format_minor(*difference), "sum"),
            _cell(explanation.why(item), "text"),
        )
        rows.append("".join(cells))
    yield _table(("break", "reference", "A", "B", "A - B", "why"), rows)


def _side(rows: list[Document]) -> str:
    if not rows:
        return ""
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    return f"line {rows[0]['line']}: {rows[0]['amount']} {rows[0]['currency']}{more}"


def _table(head: Iterable[str], rows: Iterable[str]) -> str:
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{row}</tr>\n" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{names}</tr></thead><tbody>\n{body}</tbody></table></div>\n'


def _cell(text: str, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f"<td{attribute}>{_text(text)}</td>"


def _text(text: str) -> str:
    return escape(shown(text, characters_max=TEXT_CHARACTERS_MAX))
