"""Screening: a name against all listed names, beside rapidfuzz over the whole list in the same run.

Reads the published lists of `CONCORDAT_DATA`; without them there is nothing to measure.
"""

from __future__ import annotations

import csv
import random
import time
from collections.abc import Callable

import numpy as np
from rapidfuzz import fuzz, process

from compliance.screening.lists import SanctionsList, read_list
from compliance.screening.matcher import Matcher
from compliance.screening.names import normalise
from tests.benchmarks.rows import Row, skipped
from tests.support import DATA

OFAC = DATA / "sanctions/ofac_2026-08/ofac-sdn.csv"
UN = DATA / "sanctions/un/UN_consolidated_2026-02-27.xml"
PAIRS = DATA / "name_pairs/ofac_aka_pairs.csv"
AT = "2026-08-22T08:00:00Z"
SEED = 42
QUERIES = 2_000
BRUTE_FORCE_QUERIES = 100
THRESHOLDS = (80, 85, 90)


def run() -> list[Row]:
    """Return rows of {"what", "ours", "peer", "peer_name", "unit", "note"}; lower is better in microseconds."""
    for path in (OFAC, UN, PAIRS):
        if not path.is_file():
            return [skipped("screening", f"there is no {path}: set CONCORDAT_DATA")]
    lists = _lists()
    matcher = Matcher(lists)
    queries = _strangers(lists)
    keys = sorted({normalise(n) for one in lists for e in one.entries for n in e.names} - {""})
    normal = [normalise(query) for query in queries]
    assert all(normal)

    some = normal[:BRUTE_FORCE_QUERIES]
    threshold = matcher.threshold
    brute = _microseconds(
        lambda: [process.extract(q, keys, scorer=fuzz.ratio, score_cutoff=threshold, limit=None) for q in some],
        len(some),
    )
    vector = _microseconds(
        lambda: process.cdist(some, keys, scorer=fuzz.ratio, score_cutoff=threshold, dtype=np.uint8), len(some)
    )
    first = _microseconds(lambda: matcher.screen_many(queries), len(queries))
    again = _microseconds(lambda: matcher.screen_many(queries), len(queries))
    build = _microseconds(lambda: Matcher(lists), 1)
    hits = sum(verdict.hit for verdict in matcher.screen_many(queries))
    size = f"{matcher.listed_names:,} listed names"
    return [
        _row("screen a name not seen before", first, brute, "rapidfuzz process.extract", size),
        _row("screen a name not seen before", first, vector, "rapidfuzz cdist (SIMD)", size),
        _row("screen a name seen before", again, brute, "rapidfuzz process.extract", "cached verdict"),
        _row("build the matcher from read lists", build, None, "", size),
        _finding(
            "strangers (recombined listed names) that hit",
            f"{hits / len(queries):.2%}",
            "a hard set: every word is from a listed person",
        ),
        *_thresholds(),
    ]


def _lists() -> list[SanctionsList]:
    return [
        read_list("OFAC SDN", OFAC.read_bytes(), imported_at=AT),
        read_list("UN", UN.read_bytes(), imported_at=AT),
    ]


def _strangers(lists: list[SanctionsList]) -> list[str]:
    """Return different names made of the given names of one listed person and the family name of another."""
    rng = random.Random(SEED)
    people = [e.names[0].split(",") for e in lists[0].entries if e.kind == "individual" and e.names[0].count(",") == 1]
    names: dict[str, None] = {}
    while len(names) < QUERIES:
        names[f"{rng.choice(people)[1].strip()} {rng.choice(people)[0].title()}"] = None
    return list(names)


def _thresholds() -> list[Row]:
    """Return what each threshold finds of the alias pairs and how many hard negatives it alarms on."""
    with PAIRS.open(newline="", encoding="utf-8") as source:
        pairs = [(row["is_match"] == "true", row["name1"], row["name2"]) for row in csv.DictReader(source)]
    scores = [(match, fuzz.ratio(normalise(one), normalise(other))) for match, one, other in pairs]
    rows: list[Row] = []
    for threshold in THRESHOLDS:
        found = [score >= threshold for match, score in scores if match]
        alarmed = [score >= threshold for match, score in scores if not match]
        share = f"{sum(found) / len(found):.1%} of aliases, {sum(alarmed) / len(alarmed):.1%} of hard negatives"
        rows.append(_finding(f"threshold {threshold} on ofac_aka_pairs", share, "by likeness of the names alone"))
    return rows


def _microseconds(work: Callable[[], object], times: int) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e6 / times


def _row(what: str, ours: float, peer: float | None, peer_name: str, note: str) -> Row:
    peer = None if peer is None else round(peer, 2)
    return {"what": what, "ours": round(ours, 2), "peer": peer, "peer_name": peer_name, "unit": "µs", "note": note}


def _finding(what: str, ours: str, note: str) -> Row:
    return {"what": what, "ours": ours, "peer": None, "peer_name": "", "unit": "", "note": note}


if __name__ == "__main__":
    for row in run():
        print(row)
