"""From matched pairs to signed instructions: net, check, sign, instruct and commit, in CPU a statement.

Each pair is two statements, one of each of its banks. Beside it the same nets by polars, of columns that are there
already; and the same documents by json and hashlib, which say what bytes alone cost.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from compliance.crypto import canonical, dsse
from compliance.crypto.keys import SigningKey
from compliance.cycle import checks
from compliance.cycle.commitment import commit
from compliance.cycle.limits import Cap, Limits
from compliance.cycle.liquidity import LiquidityRule
from compliance.cycle.positions import Position
from compliance.cycle.result import instruct, net_cycle
from compliance.statements import PAYLOAD_TYPES, NettingResult, SettlementInstruction
from tests.benchmarks.rows import Row

T = TypeVar("T")
CYCLE = "2026-03-02-01"
SIZES = ((50, 1), (200, 1), (500, 1), (500, 5))
"""Banks, each with each, and currencies."""
UNIT = "µs a statement"
SYNTHETIC = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def run() -> list[Row]:
    """Measure every size."""
    _rows(3, 1)
    return [row for banks, currencies in SIZES for row in _rows(banks, currencies)]


def _rows(banks: int, currencies: int) -> list[Row]:
    statements, limits = pairs(banks, currencies), _wide(banks, currencies)
    size = f"{banks} banks, {currencies} currenc{'y' if currencies == 1 else 'ies'}"
    took = _Stopwatch(2 * len(statements))
    key = SigningKey.generate()
    netting = took.of(lambda: net_cycle(**_cycle(statements, limits)))
    result, netted_us = netting.result, took.us
    positions = [position for _, position in statements]
    took.of(lambda: _check(result, positions, limits))
    checked_us = took.us
    payload = canonical.encode(result)
    envelope = took.of(lambda: dsse.seal(canonical.encode(result), PAYLOAD_TYPES[NettingResult], key))
    signed_us = took.us
    orders = took.of(lambda: _instruct(result, statements, canonical.digest(payload), key))
    instructed_us = took.us
    commitment = took.of(lambda: commit(envelope))
    committed_us = took.us
    banks_of = {position.participant for of in result.results for position in of.positions}
    characters = took.of(lambda: sum(len(msgspec.json.encode(commitment.shown_to(bank))) for bank in sorted(banks_of)))
    proven_us = took.us
    columns = _columns(positions)
    _nets_by_polars(columns)
    took.of(lambda: _nets_by_polars(columns))
    polars_us = took.us
    written = [json.loads(canonical.encode(order)) for order in orders]
    took.of(lambda: [hashlib.sha256(json.dumps(one).encode()).digest() for one in written])
    bytes_us = took.us
    return [
        _row(f"net, {size}", netted_us, polars_us, "polars, nets only"),
        _row(f"check, {size}", checked_us),
        _row(f"sign the result, {size}", signed_us, note=f"{len(payload) / 1e6:.1f} MB"),
        _row(f"instruct and sign, {size}", instructed_us, bytes_us, "json and SHA-256 of the instructions"),
        _row(f"commit, {size}", committed_us),
        _row(f"prove to every bank, {size}", proven_us, note=f"{characters / 1e6:.0f} MB in all"),
        _row(f"matched to signed, {size}", netted_us + checked_us + signed_us + instructed_us),
    ]


def pairs(banks: int, currencies: int, seed: int = 1) -> list[tuple[str, Position]]:
    """Return what each bank and each other owe each other, with digests."""
    draw = random.Random(seed)
    names = ["".join(letters) + "ADEFF" for letters in itertools.islice(itertools.product(SYNTHETIC, repeat=3), banks)]
    codes = ("CHF", "EUR", "GBP", "JPY", "USD")[:currencies]
    return [
        (
            draw.randbytes(32).hex(),
            Position(
                *(code, low, high, 1),
                *(5, 9, 5, str(draw.randint(5, 10**9)), draw.randbytes(32).hex()),
                *(3, 9, 7, str(draw.randint(7, 10**9)), draw.randbytes(32).hex()),
            ),
        )
        for code in codes
        for low, high in itertools.combinations(names, 2)
    ]


def _wide(banks: int, currencies: int) -> Limits:
    """Return a cap for every bank that none of them comes near."""
    named = {(p.currency, bank) for _, p in pairs(banks, currencies) for bank in (p.low, p.high)}
    return Limits(
        caps=tuple(Cap(participant=bank, currency=code, cap_minor=str(10**15)) for code, bank in sorted(named))
    )


def _cycle(statements: list[tuple[str, Position]], limits: Limits) -> dict[str, Any]:
    return {
        "cycle": CYCLE,
        "value_date": CYCLE[:10],
        "rulebook_sha256": "0" * 64,
        "statements": statements,
        "limits": limits,
        "liquidity": LiquidityRule(mode="optimal", work=1_000),
        "carried_over": (),
    }


def _check(result: NettingResult, included: list[Position], limits: Limits) -> None:
    checks.conservation(result, included)
    checks.net_debit_caps(result, limits, severity="fail")
    checks.bilateral_limits(included, limits, severity="fail")
    checks.screening_attested(
        included, {}, cut_off_at=datetime.now(UTC), list_age_max_hours=24, required=False, severity="warn"
    )
    totals = {p.key: int(p.forth_minor) + int(p.back_minor) for p in included}
    checks.aggregate_flow(totals, {}, cycles_min=5, factor_percent=500, floor_minor={}, severity="warn")


def _instruct(
    result: NettingResult, statements: list[tuple[str, Position]], sha256: str, key: SigningKey
) -> list[SettlementInstruction]:
    orders = list(
        instruct(
            cycle=CYCLE,
            edition=1,
            results=result.results,
            included=statements,
            result_sha256=sha256,
            settlement_agent="AGNTXXC0",
        )
    )
    for order in orders:
        payload = canonical.encode(order)
        canonical.digest(payload)
        dsse.seal(payload, PAYLOAD_TYPES[SettlementInstruction], key)
    return orders


def _columns(positions: list[Position]) -> Any:
    import polars

    both = [(p.currency, p.low, p.high, int(p.forth_minor)) for p in positions]
    both += [(p.currency, p.high, p.low, int(p.back_minor)) for p in positions]
    return polars.DataFrame(both, schema=["currency", "debtor", "creditor", "amount"], orient="row")


def _nets_by_polars(frame: Any) -> Any:
    import polars

    pays = frame.group_by("currency", polars.col("debtor").alias("bank")).agg(polars.col("amount").sum().alias("pays"))
    gets = frame.group_by("currency", polars.col("creditor").alias("bank")).agg(
        polars.col("amount").sum().alias("gets")
    )
    return pays.join(gets, on=["currency", "bank"], how="full")


class _Stopwatch:
    """Takes the CPU time of this process, all its threads, by statement."""

    def __init__(self, statements: int) -> None:
        self._statements = statements
        self.us = 0.0

    def of(self, work: Callable[[], T]) -> T:
        began = time.process_time()
        made = work()
        self.us = (time.process_time() - began) / self._statements * 1e6
        return made


def _row(what: str, ours: float, peer: float | None = None, peer_name: str = "", note: str = "") -> Row:
    rounded = None if peer is None else round(peer, 2)
    return {"what": what, "ours": round(ours, 2), "peer": rounded, "peer_name": peer_name, "unit": UNIT, "note": note}
