"""The checks before settlement, and when four eyes are asked for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import pytest

from compliance.cycle import checks
from compliance.cycle.checks import Check
from compliance.cycle.limits import BilateralLimit, Cap, Limits, Prefunding
from compliance.cycle.liquidity import LiquidityRule
from compliance.cycle.positions import Position, of_statement
from compliance.cycle.result import net_cycle
from compliance.statements import (
    CarriedOver,
    Flow,
    NettingResult,
    PositionStatement,
    ScreeningList,
    ScreeningStatement,
)

A, B, C = "ALFADEFF", "BETAFRPP", "GAMAITRR"
CYCLE = "2026-01-05-01"
CUT_OFF = datetime(2026, 1, 5, 12, tzinfo=UTC)


def statement(low: str, high: str, forth: int, back: int) -> Position:
    def flow(sender: str, receiver: str, amount: int) -> Flow:
        count = 1 if amount else 0
        return Flow(
            sender=sender,
            receiver=receiver,
            first_sequence=1,
            last_sequence=count,
            count=count,
            amount_minor=str(amount),
            root="0" * 64,
        )

    flows = (flow(low, high, forth), flow(high, low, back))
    statement = PositionStatement(cycle=CYCLE, currency="EUR", pair=(low, high), revision=1, flows=flows)
    return of_statement(statement)


STATEMENTS = [statement(A, B, 100, 30), statement(B, C, 50, 0)]


def netted(carried: tuple[CarriedOver, ...] = ()) -> NettingResult:
    return net_cycle(
        cycle=CYCLE,
        value_date="2026-01-05",
        rulebook_sha256="0" * 64,
        statements=[(str(number), one) for number, one in enumerate(STATEMENTS)],
        limits=Limits(),
        liquidity=LiquidityRule(mode="optimal", work=1),
        carried_over=carried,
    ).result


def test_conservation() -> None:
    result = netted()
    assert checks.conservation(result, STATEMENTS).verdict == "pass"
    (eur,) = result.results
    less = msgspec.structs.replace(eur.positions[0], pays_minor="99", net_minor="-69")
    forged = [
        msgspec.structs.replace(eur, positions=(less, *eur.positions[1:])),
        msgspec.structs.replace(eur, positions=eur.positions[1:]),
        msgspec.structs.replace(eur, gross_minor="181"),
    ]
    for one in forged:
        check = checks.conservation(msgspec.structs.replace(result, results=(one,)), STATEMENTS)
        assert (check.verdict, bool(check.evidence)) == ("fail", True)
    assert checks.conservation(msgspec.structs.replace(result, results=()), STATEMENTS).verdict == "fail"


def test_completeness() -> None:
    def check(**changes: Any) -> Check:
        given = {"participants": [A, B, C], "cuts": [A, B, C], "attested": [A, B, C], "result": netted(), **changes}
        return checks.completeness(severity="warn", **given)

    assert check().verdict == "pass"
    assert check(cuts=[A, B], attested=[A]).evidence == (f"{C}: no cut", f"{B}: no complete attestation")
    carried = (CarriedOver(pair=(A, C), currency="EUR", reason="break"),)
    assert check(result=netted(carried)).evidence == (f"EUR {A} {C}: carried over, break",)
    over_cap = (CarriedOver(pair=(A, C), currency="EUR", reason="net_debit_cap"),)
    assert check(result=netted(over_cap)).verdict == "pass"


def test_net_debit_caps() -> None:
    # A pays 100 and receives 30.
    def check(*caps: tuple[str, str, int], prefunded: int = 0, reserved: int = 0) -> Check:
        held = Prefunding(participant=A, currency="EUR", prefunded_minor=str(prefunded), reserved_minor=str(reserved))
        limits = Limits(
            caps=tuple(Cap(participant=bic, currency=code, cap_minor=str(cap)) for bic, code, cap in caps),
            prefunding=(held,),
        )
        return checks.net_debit_caps(netted(), limits, severity="fail")

    assert check((A, "EUR", 70), (C, "EUR", 0)).verdict == "pass"
    assert check((A, "EUR", 69)).evidence == (f"EUR {A}: owes 70, may owe 69",)
    assert check((A, "JPY", 0)).verdict == "pass"
    assert check((A, "EUR", 60), prefunded=10).verdict == "pass"
    assert check((A, "EUR", 60), prefunded=10, reserved=1).verdict == "fail"


def test_bilateral_limits() -> None:
    def check(by: str, to: str, limit: int) -> Check:
        one = BilateralLimit(participant=by, counterparty=to, currency="EUR", limit_minor=str(limit))
        return checks.bilateral_limits(STATEMENTS, Limits(bilateral=(one,)), severity="warn")

    assert check(B, A, 70).verdict == "pass"
    assert check(B, A, 69).evidence == (f"EUR {A} owes {B} 70, may owe 69",)
    assert check(A, B, 0).verdict == "pass"


SCREENED = ScreeningStatement(
    cycle=CYCLE,
    participant=A,
    lists=(ScreeningList(name="UN", sha256="0" * 64, entries=1, imported_at="2026-01-04T12:00:00Z"),),
    matcher="m",
    screened=3,
    hits=0,
    released=0,
    rejected=0,
    pending=0,
)


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({}, None),
        ({"lists": ()}, "screened against no list"),
        ({"screened": 2}, "screened 2 of 3 payments"),
        ({"pending": 1, "hits": 1}, None),
        (
            {"lists": (msgspec.structs.replace(SCREENED.lists[0], imported_at="2026-01-04T11:59:59.5Z"),)},
            "UN imported at 2026-01-04T11:59:59.5Z",
        ),
    ],
)
def test_screening(changes: dict[str, Any], finding: str | None) -> None:
    screenings = {bank: msgspec.structs.replace(SCREENED, participant=bank) for bank in (A, C)}
    screenings[B] = msgspec.structs.replace(SCREENED, participant=B, **changes)
    check = screening(screenings)
    assert check.evidence == (() if finding is None else (f"{B}: {finding}",))
    assert check.verdict == ("pass" if finding is None else "fail")


def test_screening_that_is_missing() -> None:
    assert screening({}).evidence == tuple(f"{bank}: no screening statement" for bank in (A, B, C))
    assert screening({}, required=False).verdict == "pass"


def screening(screenings: dict[str, ScreeningStatement], *, required: bool = True) -> Check:
    return checks.screening_attested(
        STATEMENTS, screenings, cut_off_at=CUT_OFF, list_age_max_hours=24, required=required, severity="fail"
    )


@pytest.mark.parametrize(
    ("total", "past", "verdict"),
    [
        (1_000, [], "pass"),
        (1_000, [10, 10], "pass"),
        (50, [10, 10, 10], "pass"),
        (51, [10, 10, 10], "warn"),
        (51, [10, 1, 11, 90], "pass"),  # the median is 10½, five times of which is 52½
        (53, [10, 1, 11, 90], "warn"),
        (19, [1, 1, 1], "pass"),  # below the floor
        (20, [0, 0, 0], "warn"),
    ],
)
def test_aggregate_flow(total: int, past: list[int], verdict: Literal["pass", "warn"]) -> None:
    key = ("EUR", A, B)
    check = checks.aggregate_flow(
        {key: total}, {key: past}, cycles_min=3, factor_percent=500, floor_minor={"EUR": 20}, severity="warn"
    )
    assert check.verdict == verdict
