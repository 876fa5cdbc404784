"""`concordat advise` as an analyst meets it: what it answers, and what it refuses beside what every command does."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.analyst import LARGEST, Source, answer, check_refusal, concordat, of, owe

HOUR = 3_600


def owe_since(from_: str, to: str, amount: Any, time: Any, **members: Any) -> dict[str, Any]:
    return owe(from_, to, amount, time=time, **members)


def advise(source: Source, *arguments: str) -> list[Any]:
    curves: list[Any] = answer("advise", source, *arguments)["currencies"]
    return curves


def trying(*cycles: int) -> list[str]:
    return [text for number in cycles for text in ("--cycles", str(number))]


BACK_AND_FORTH = of(
    *(owe_since("A", "B", 100, hour * HOUR + 600, id=f"F{hour}") for hour in range(24)),
    *(owe_since("B", "A", 100, hour * HOUR + 3_000, id=f"B{hour}") for hour in range(24)),
)


def some(count: int, *, days: int = 2, seed: int = 1) -> list[dict[str, Any]]:
    random_ = random.Random(seed)
    return [
        owe_since(
            *random_.sample("ABCDE", 2),
            random_.randrange(1, 10**6),
            random_.randrange(-days * 86_400, days * 86_400),
            currency=random_.choice(("EUR", "USD")),
            **({"id": f"T{at}"} if at % 2 else {}),
        )
        for at in range(count)
    ]


# --- what it answers --------------------------------------------------------------------------------------


def test_the_answer() -> None:
    [curve] = advise(BACK_AND_FORTH, *trying(48, 1, 24))
    assert curve.pop("criterion").startswith(
        "the number of cycles with the greatest difference of saving and mean wait"
    )
    assert curve == {
        "currency": "",
        "gross": 4_800,
        "knee": 24,
        "words": "24 cycles a day save 4800 of 4800 (100.00 %); value waits 0:30:00 on average, "
        "and no bank owes more than 0 in one cycle",
        "monotone": True,
        "points": [
            point(1, settled=0, saving=4_800, saving_bp=10_000, mean_wait_s=12 * HOUR, peak_net_debit=0),
            point(24, settled=0, saving=4_800, saving_bp=10_000, mean_wait_s=1_800, peak_net_debit=0),
            point(48, settled=4_800, saving=0, saving_bp=0, mean_wait_s=900, peak_net_debit=100),
        ],
    }


def point(cycles_a_day: int, **figures: int) -> dict[str, int]:
    return {"cycles_a_day": cycles_a_day, **figures}


def by_hand(debts: list[dict[str, Any]], number: int, *, day: int, opens_at: int) -> tuple[dict[str, int], Fraction]:
    """Put every obligation into its cycle, net each cycle, and add up; return the exact mean wait as well."""
    length = Fraction(day, number)
    cycles: defaultdict[int, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    waited = Fraction(0)
    for debt in debts:
        at = (debt["time"] - opens_at) // length
        waited += debt["amount"] * (opens_at + (at + 1) * length - debt["time"])
        cycles[at][debt["to"]] += debt["amount"]
        cycles[at][debt["from"]] -= debt["amount"]
    gross = sum(debt["amount"] for debt in debts)
    settlement_value = sum(net for nets in cycles.values() for net in nets.values() if net > 0)
    return point(
        number,
        settled=settlement_value,
        saving=gross - settlement_value,
        saving_bp=(gross - settlement_value) * 10_000 // gross,
        mean_wait_s=int(waited / gross),
        peak_net_debit=max(-net for nets in cycles.values() for net in nets.values()),
    ), waited / gross


@pytest.mark.parametrize(
    ("arguments", "numbers", "day", "opens_at"),
    [
        ((), (1, 2, 3, 4, 6, 8, 12, 24, 48, 96), 86_400, 0),
        (("--opens-at", "28800", *trying(7, 5, 1)), (1, 5, 7), 86_400, 28_800),
        (("--opens-at", "-77", "--day", "36001", *trying(100_000, 2)), (2, 100_000), 36_001, -77),
        (trying(3), (3,), 86_400, 0),
    ],
)
def test_the_figures_are_those_of_netting_every_cycle_by_hand(
    arguments: tuple[str, ...], numbers: tuple[int, ...], day: int, opens_at: int
) -> None:
    debts = some(60)
    for curve in advise(of(*debts), *arguments):
        obligations = [debt for debt in debts if debt["currency"] == curve["currency"]]
        expected = [by_hand(obligations, number, day=day, opens_at=opens_at) for number in numbers]
        assert curve["points"] == [figures for figures, _ in expected]
        assert curve["gross"] == sum(debt["amount"] for debt in obligations)
        savings = [figures["saving"] for figures, _ in expected]
        assert curve["monotone"] == (savings == sorted(savings, reverse=True))
        assert curve["knee"] == knee(expected)
        at = curve["points"][numbers.index(curve["knee"])]
        assert f" {at['saving']} of {curve['gross']} " in curve["words"]
        assert f"{timedelta(seconds=at['mean_wait_s'])} on average" in curve["words"]
        assert curve["words"].endswith(f"no bank owes more than {at['peak_net_debit']} in one cycle")


def knee(points: list[tuple[dict[str, int], Fraction]]) -> int:
    """Choose by the greatest difference of saving and wait on their scales; of equals the one that waits less."""
    savings, waits = [figures["saving"] for figures, _ in points], [wait for _, wait in points]

    def scaled(value: Fraction | int, values: list[Any]) -> Fraction:
        return Fraction(value - min(values)) / ((max(values) - min(values)) or 1)

    best = max(points, key=lambda entry: (scaled(entry[0]["saving"], savings) - scaled(entry[1], waits), -entry[1]))
    return best[0]["cycles_a_day"]


def test_what_falls_on_the_end_of_a_cycle_belongs_to_the_next() -> None:
    debts = owe_since("A", "B", 5, 43_199), owe_since("B", "A", 5, 43_200)
    [curve] = advise(of(*debts), *trying(1, 2))
    assert [(point["saving"], point["mean_wait_s"]) for point in curve["points"]] == [(10, 43_200), (0, 21_600)]


def test_timestamps_say_the_same_as_their_seconds() -> None:
    """Any offset, and any fraction of the second, is the same second."""
    random_ = random.Random(3)
    counted = some(40, days=10_000)
    stamped = []
    for debt in counted:
        zone = timezone(timedelta(minutes=random_.randrange(-14 * 60, 14 * 60)))
        at = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=debt["time"])).astimezone(zone)
        fraction = random_.choice(("", ".0", ".999999999999"))
        stamped.append({**debt, "time": at.strftime(f"%Y-%m-%d{random_.choice('Tt ')}%H:%M:%S{fraction}") + offset(at)})
    assert concordat("advise", "-", stdin=of(*stamped)).stdout == concordat("advise", "-", stdin=of(*counted)).stdout


def offset(at: datetime) -> str:
    text = at.strftime("%z")
    return "z" if text == "+0000" else f"{text[:3]}:{text[3:]}"


def test_amounts_of_38_digits_and_times_far_away() -> None:
    [curve] = advise(of(owe_since("A", "B", str(LARGEST), -(10**30))))
    assert (curve["gross"], curve["points"][0]["peak_net_debit"]) == (LARGEST, LARGEST)


def test_neither_the_order_of_the_candidates_nor_money_changes_the_answer() -> None:
    debts = some(60)
    first = concordat("advise", "-", *trying(1, 7), stdin=of(*debts)).stdout
    second = of(*debts, balances={"A": {"EUR": 3}})
    assert concordat("advise", "-", *trying(7, 1), stdin=second).stdout == first


# --- what it refuses --------------------------------------------------------------------------------------

T1 = owe_since("A", "B", 1, 5, id="T1")
STAMPED = owe_since("A", "B", 1, "2026-03-02T09:30:00Z")
SECOND = "payments[1]: "


@pytest.mark.parametrize(
    ("source", "reason", "place"),
    [
        (of(T1, {"from": "A", "to": "B", "amount": 1}), "field_invalid", f"{SECOND}time: advice needs to know"),
        (of(T1, owe_since("A", "B", 1, None)), "field_invalid", f"{SECOND}time: "),
        (of(T1, owe_since("A", "B", 1, 1.5)), "field_invalid", f"{SECOND}time: "),
        (of(T1, owe_since("A", "B", 1, True)), "field_invalid", f"{SECOND}time: "),
        *(
            (of(T1, owe_since("A", "B", 1, text)), "time_malformed", f"{SECOND}time: {text!r}\n")
            for text in (
                *("", "007", "+5", "1.0", "1e3", "yesterday", "2026-03-02", "2026-03-02T09:30:00", "2026-03-02T09:30Z"),
                *("2026-02-30T00:00:00Z", "2026-03-02T24:00:00Z", "2026-03-02T23:59:60Z", "2026-03-02T23:60:00Z"),
                *("2026-03-02T09:30:00+05:60", "2026-03-02T09:30:00+24:00", "2026-03-02T09:30:00.Z", "٢026-03-02"),
            )
        ),
        (of(T1, STAMPED), "time_malformed", f"{SECOND}time: some times are whole"),
        (of(STAMPED, T1), "time_malformed", f"{SECOND}time: some times are whole"),
        (b"from,to,amount,time\nA,B,1,5\nA,B,1,\n", "field_invalid", "line 3: time: "),
        (b"from,to,amount,time\nA,B,1,5\nA,B,1,1.0\n", "time_malformed", "line 3: time: '1.0'\n"),
        (b"from,to,amount\nA,B,1\n", "field_invalid", "line 2: time: "),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_its_reason_and_place(
    tmp_path: Path, source: Source, reason: str, place: str
) -> None:
    check_refusal(tmp_path, "advise", source, reason, place)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (trying(0), "--cycles"),
        (trying(-3), "--cycles"),
        (trying(4, 2, 4), "a number is named twice"),
        (("--cycles", "many"), "--cycles"),
        (("--day", "0"), "--day"),
        (("--opens-at", "09:00"), "--opens-at"),
    ],
)
def test_a_wrong_call_ends_with_code_2(arguments: list[str], complaint: str) -> None:
    process = concordat("advise", "-", *arguments, stdin=BACK_AND_FORTH, exit_code=2)
    assert complaint in process.stderr.decode()
    assert process.stdout == b""
