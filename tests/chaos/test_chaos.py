"""A short chaos run: a few faults to three banks. `make chaos` runs a long one, with everything.

Lies and hung databases make a cycle wait for its deadline, which is too long to be busy with here.
"""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from tests.chaos.run import Options, run
from tests.chaos.schedule import Kind

SHORT = Options(
    seed=9,
    seconds=8,
    every_s=2,
    lasting=0.2,
    deadline_s=60,
    banks=3,
    liars=0,
    doubles=(),
    kinds=(Kind.KILLED, Kind.DATABASE_KILLED, Kind.PARTED, Kind.JUNK),
    again="pytest tests/chaos/test_chaos.py",
)


async def test_a_short_run_heals_and_nothing_is_lost() -> None:
    report = await run(SHORT, print)
    page = StringIO()
    report.show(Console(file=page, width=160))
    print(page.getvalue())
    assert report.passed
    assert len(report.proofs.claims) == 12
    assert report.faults
    assert all(record.healed_at is not None for record in report.faults)
