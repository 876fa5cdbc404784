"""A bank that lies in its cuts while somebody wants it to: `python -m tests.chaos.liar participant serve`.

The file named by CHAOS_LIE says how: `overstated` (one lane further than anybody paid), `invented` (a lane on which
nothing was ever paid), or nothing. All else it does as an honest bank: it signs its lie, keeps it, and hands it in.
"""

from __future__ import annotations

import os
from pathlib import Path

from compliance.statements import CycleCut, LaneCut
from gateway import cli
from participants.cycle.commands import FixCut
from participants.ledger import events
from participants.ledger.books import Books

OVERSTATED_BY = 3
INVENTED = 7
LIE = Path(os.environ.get("CHAOS_LIE", "/nonexistent"))
PEERS = os.environ.get("CHAOS_PEERS", "").split()
INVENTED_CURRENCY = "USD"

_honest = FixCut.decide


def lie_now() -> str:
    """Return the lie of the moment, empty for none."""
    try:
        return LIE.read_text("ascii").strip()
    except OSError:
        return ""


def decide(self: FixCut, books: Books) -> CycleCut:
    kind = lie_now()
    if not kind:
        return _honest(self, books)
    lanes = {
        (key.sender, key.currency): lane.last_sequence
        for key, lane in sorted(books.lanes.items())
        if key.receiver == books.bank and key.currency in self.currencies and lane.last_sequence
    }
    if kind == "overstated" and lanes:
        lanes[next(iter(lanes))] += OVERSTATED_BY
    else:
        lanes[next(peer for peer in sorted(PEERS) if peer != books.bank), INVENTED_CURRENCY] = INVENTED
    cuts = tuple(
        LaneCut(sender=sender, currency=currency, last_sequence=last)
        for (sender, currency), last in sorted(lanes.items())
    )
    cut = CycleCut(cycle=self.cycle, receiver=books.bank, lanes=cuts)
    books.record(events.cut_subject(self.cycle), 1, "cycle.cut", events.CutFixed(cycle=self.cycle, cut=cut))
    return cut


if __name__ == "__main__":
    FixCut.decide = decide  # type: ignore[method-assign]
    cli.main()
