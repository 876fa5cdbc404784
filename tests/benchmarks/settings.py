"""What `make bench` is told by environment variables: read before anything runs, and refused in one line."""

from __future__ import annotations

import os
import re

NUMBERS_MIN = {
    "CONCORDAT_BENCH_BANKS": 2,
    "CONCORDAT_BENCH_COUNTERPARTIES": 1,
    "CONCORDAT_BENCH_CYCLES": 1,
    "CONCORDAT_BENCH_HIGHS_S": 1,
    "CONCORDAT_BENCH_POSTINGS": 1,
    "CONCORDAT_BENCH_SEEDS": 1,
}
"""The least that each number may be."""

BANKS_MIN, BANKS_MAX = 2, 26**3
"""One alone owes nobody anything; `tests/simulated_banks.py` has so many BICs."""

CURRENCIES = ("EUR", "CHF", "USD")
HOUSES = "6,50,50x3,200,500"
"""What "cutoff" clears: numbers of banks, and after an x the number of currencies if it isn't one."""
_HOUSE = re.compile(r"([0-9]{1,5})(?:x([0-9]))?")


class SettingError(ValueError):
    """A setting isn't what it may be; says what is taken."""


def check() -> None:
    """Read every setting. Raises SettingError."""
    for name, least in NUMBERS_MIN.items():
        text = os.environ.get(name, str(least))
        if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) < least:
            raise SettingError(f"{name} takes a whole number from {least} on, not {text!r}")
    houses()


def houses() -> dict[str, tuple[int, tuple[str, ...]]]:
    """Return the houses that "cutoff" clears: how many banks, and their currencies. Raises SettingError."""
    text = os.environ.get("CONCORDAT_BENCH_HOUSES", HOUSES)
    asked = {}
    for name in text.split(","):
        match = _HOUSE.fullmatch(name)
        banks, currencies = (int(match[1]), int(match[2] or 1)) if match else (0, 0)
        if not (BANKS_MIN <= banks <= BANKS_MAX and 1 <= currencies <= len(CURRENCIES)):
            raise SettingError(
                f"CONCORDAT_BENCH_HOUSES takes numbers of banks from {BANKS_MIN} to {BANKS_MAX:,} with commas between, "
                f"each with x2 or x3 for so many currencies, as {HOUSES}; not {name!r}"
            )
        asked[name] = banks, tuple(sorted(CURRENCIES[:currencies]))
    return asked
