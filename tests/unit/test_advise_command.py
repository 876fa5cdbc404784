"""`concordat advise` as an analyst meets it: real processes, files in, bytes out."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_import_hygiene import SERVER, loaded_by

LARGEST = 10**38 - 1
HOUR = 3_600


def concordat(
    *arguments: str | Path, given: Any = b"", seed: str = "0", code: int = 0
) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "advise", *map(str, arguments)],
        input=given if isinstance(given, bytes) else json.dumps(given).encode(),
        capture_output=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONHASHSEED": seed},
    )
    assert done.returncode == code, done.stderr.decode()
    return done


def owe(from_: str, to: str, amount: Any, time: Any, **members: Any) -> dict[str, Any]:
    return {"from": from_, "to": to, "amount": amount, "time": time, **members}


def of(*debts: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {**members, "obligations": list(debts)}


def advise(given: Any, *arguments: str) -> list[Any]:
    found: list[Any] = json.loads(concordat("-", *arguments, given=given).stdout)["currencies"]
    return found


def trying(*cycles: int) -> list[str]:
    return [text for number in cycles for text in ("--cycles", str(number))]


BACK_AND_FORTH = of(
    *(owe("A", "B", 100, hour * HOUR + 600, id=f"F{hour}") for hour in range(24)),
    *(owe("B", "A", 100, hour * HOUR + 3_000, id=f"B{hour}") for hour in range(24)),
)


def some(count: int, *, days: int = 2, seed: int = 1) -> list[dict[str, Any]]:
    random_ = random.Random(seed)
    return [
        owe(
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
    [found] = advise(BACK_AND_FORTH, *trying(48, 1, 24))
    assert found.pop("criterion").startswith(
        "the number of cycles with the greatest difference of saving and mean wait"
    )
    assert found == {
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
    for one in debts:
        at = (one["time"] - opens_at) // length
        waited += one["amount"] * (opens_at + (at + 1) * length - one["time"])
        cycles[at][one["to"]] += one["amount"]
        cycles[at][one["from"]] -= one["amount"]
    gross = sum(one["amount"] for one in debts)
    settled = sum(net for nets in cycles.values() for net in nets.values() if net > 0)
    return point(
        number,
        settled=settled,
        saving=gross - settled,
        saving_bp=(gross - settled) * 10_000 // gross,
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
    for found in advise(of(*debts), *arguments):
        own = [one for one in debts if one["currency"] == found["currency"]]
        expected = [by_hand(own, number, day=day, opens_at=opens_at) for number in numbers]
        assert found["points"] == [figures for figures, _ in expected]
        assert found["gross"] == sum(one["amount"] for one in own)
        savings = [figures["saving"] for figures, _ in expected]
        assert found["monotone"] == (savings == sorted(savings, reverse=True))
        assert found["knee"] == knee(expected)
        at = found["points"][numbers.index(found["knee"])]
        assert f" {at['saving']} of {found['gross']} " in found["words"]
        assert f"{timedelta(seconds=at['mean_wait_s'])} on average" in found["words"]
        assert found["words"].endswith(f"no bank owes more than {at['peak_net_debit']} in one cycle")


def knee(points: list[tuple[dict[str, int], Fraction]]) -> int:
    """Choose by the greatest difference of saving and wait on their scales; of equals the one that waits less."""
    savings, waits = [figures["saving"] for figures, _ in points], [wait for _, wait in points]

    def scaled(value: Fraction | int, values: list[Any]) -> Fraction:
        return Fraction(value - min(values)) / ((max(values) - min(values)) or 1)

    best = max(points, key=lambda one: (scaled(one[0]["saving"], savings) - scaled(one[1], waits), -one[1]))
    return best[0]["cycles_a_day"]


def test_what_falls_on_the_end_of_a_cycle_belongs_to_the_next() -> None:
    debts = owe("A", "B", 5, 43_199), owe("B", "A", 5, 43_200)
    [found] = advise(of(*debts), *trying(1, 2))
    assert [(one["saving"], one["mean_wait_s"]) for one in found["points"]] == [(10, 43_200), (0, 21_600)]


def test_timestamps_say_the_same_as_their_seconds() -> None:
    """Any offset, and any fraction of the second, is the same second."""
    random_ = random.Random(3)
    counted = some(40, days=10_000)
    stamped = []
    for one in counted:
        zone = timezone(timedelta(minutes=random_.randrange(-14 * 60, 14 * 60)))
        at = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=one["time"])).astimezone(zone)
        fraction = random_.choice(("", ".0", ".999999999999"))
        stamped.append({**one, "time": at.strftime(f"%Y-%m-%d{random_.choice('Tt ')}%H:%M:%S{fraction}") + offset(at)})
    assert concordat("-", given=of(*stamped)).stdout == concordat("-", given=of(*counted)).stdout


def offset(at: datetime) -> str:
    text = at.strftime("%z")
    return "z" if text == "+0000" else f"{text[:3]}:{text[3:]}"


def test_amounts_of_38_digits_and_times_far_away() -> None:
    [found] = advise(of(owe("A", "B", str(LARGEST), -(10**30))))
    assert (found["gross"], found["points"][0]["peak_net_debit"]) == (LARGEST, LARGEST)


@pytest.mark.parametrize("text", [b'{"payments": []}', b"from,to,amount\n", b"time,from,to,amount\n"])
def test_nothing_gives_no_advice(text: bytes) -> None:
    assert concordat("-", given=text).stdout == b'{"currencies":[]}\n'


# --- the same bytes ---------------------------------------------------------------------------------------


def test_every_order_form_process_and_hash_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    debts = some(60)
    debts.append(debts[0])  # one without an id is there twice
    shuffled = random.Random(4).sample(debts, len(debts))
    columns = ("time", "amount", "to", "from", "currency", "id")
    path = tmp_path / "debts.csv"
    path.write_text(
        "\n".join([",".join(columns), *(",".join(str(one.get(name, "")) for name in columns) for one in shuffled), ""])
    )
    answers = {
        concordat("-", *trying(1, 7), given=of(*debts), seed="1").stdout,
        concordat("-", *trying(7, 1), given={"payments": shuffled, "balances": {"A": {"EUR": 3}}}, seed="2").stdout,
        concordat(path, *trying(7, 1), seed="3").stdout,
        concordat("-", "--format", "csv", *trying(7, 1), given=path.read_bytes(), seed="random").stdout,
    }
    assert len(answers) == 1
    [answer] = answers
    assert answer == json.dumps(json.loads(answer), sort_keys=True, separators=(",", ":")).encode() + b"\n"


# --- what it refuses --------------------------------------------------------------------------------------

T1 = owe("A", "B", 1, 5, id="T1")
SECOND = "standard input: obligations[1]: "


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b"", "file_empty: standard input\n"),
        (b'{"obligations": [{"id": "T1", "fr', "json_malformed: standard input: "),
        (of(T1, {"from": "A", "to": "B", "amount": 1}), f"field_invalid: {SECOND}time: advice needs to know"),
        (of(T1, owe("A", "B", 1, None)), f"field_invalid: {SECOND}time: "),
        (of(T1, owe("A", "B", 1, 1.5)), f"field_invalid: {SECOND}time: "),
        (of(T1, owe("A", "B", 1, True)), f"field_invalid: {SECOND}time: "),
        *(
            (of(T1, owe("A", "B", 1, text)), f"time_malformed: {SECOND}time: {text!r}\n")
            for text in (
                *("", "007", "+5", "1.0", "1e3", "yesterday", "2026-03-02", "2026-03-02T09:30:00", "2026-03-02T09:30Z"),
                *("2026-02-30T00:00:00Z", "2026-03-02T24:00:00Z", "2026-03-02T23:59:60Z", "2026-03-02T23:60:00Z"),
                *("2026-03-02T09:30:00+05:60", "2026-03-02T09:30:00+24:00", "2026-03-02T09:30:00.Z", "٢026-03-02"),
            )
        ),
        (of(T1, owe("A", "B", 1, "2026-03-02T09:30:00Z")), f"time_malformed: {SECOND}time: some times are whole"),
        (of(owe("A", "B", 1, "2026-03-02T09:30:00Z"), T1), f"time_malformed: {SECOND}time: some times are whole"),
        (of(T1, owe("B", "A", 1, 5, id="T1")), f"duplicate_id: {SECOND}id: T1\n"),
        (of(T1, owe("B", "B", 1, 5)), f"self_payment: {SECOND}to: B\n"),
        (of(T1, owe("B", "A", -1, 5)), f"amount_not_positive: {SECOND}amount: -1\n"),
        (of(T1, owe("B", "A", LARGEST + 1, 5)), f"amount_overflow: {SECOND}amount: "),
        (of(T1, owe("B", "A", LARGEST, 5)), f"sum_overflow: {SECOND}amount: "),
        (of(T1, owe("B", "C", 1, 5), participants=["A", "B"]), f"unknown_participant: {SECOND}to: C\n"),
        (b"from,to,amount,time\nA,B,1,5\nA,B,1,\n", "field_invalid: standard input: line 3: time: "),
        (b"from,to,amount,time\nA,B,1,5\nA,B,1,1.0\n", "time_malformed: standard input: line 3: time: '1.0'\n"),
        (b"from,to,amount\nA,B,1\n", "field_invalid: standard input: line 2: time: "),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_its_reason_and_place(tmp_path: Path, given: Any, said: str) -> None:
    target = tmp_path / "answer.json"
    done = concordat("-", "--output", target, given=given, code=2)
    assert done.stderr.decode().startswith(f"concordat: {said}")
    assert done.stderr.count(b"\n") == 1
    assert done.stdout == b""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (trying(0), "--cycles"),
        (trying(-3), "--cycles"),
        (trying(4, 2, 4), "a number is named twice"),
        (("--cycles", "many"), "--cycles"),
        (("--day", "0"), "--day"),
        (("--opens-at", "09:00"), "--opens-at"),
        (("--format", "xml"), "'xml' is neither json nor csv"),
    ],
)
def test_a_wrong_call_ends_with_code_2(arguments: list[str], said: str) -> None:
    done = concordat("-", *arguments, given=BACK_AND_FORTH, code=2)
    assert said in done.stderr.decode()
    assert done.stdout == b""


def test_it_loads_neither_kernels_nor_a_server(tmp_path: Path) -> None:
    path = tmp_path / "debts.json"
    path.write_text(json.dumps(BACK_AND_FORTH))
    loaded = loaded_by(
        f"from gateway.analysis.advise import _answer; _answer({str(path)!r}, None, [1, 2], opens_at=0, day=86400)"
    )
    assert not loaded & {*SERVER, "numba", "numpy", "httpx", "textual"}
