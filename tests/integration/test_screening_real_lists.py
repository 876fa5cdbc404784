"""Screening on the published lists: whole lists read, real aliases found, the index equal to brute force."""

from __future__ import annotations

import csv
import random

import pytest
from rapidfuzz import fuzz, process
from support import DATA

from compliance.screening.lists import ListError, ListRefusal, SanctionsList, read_list
from compliance.screening.matcher import Matcher
from compliance.screening.names import normalise

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the published lists aren't here: set CONCORDAT_DATA")
AT = "2026-08-22T08:00:00Z"


def file(name: str) -> bytes:
    return (DATA / "sanctions" / name).read_bytes()


@pytest.fixture(scope="module")
def lists() -> tuple[SanctionsList, SanctionsList]:
    return (
        read_list("OFAC SDN", file("ofac_2026-08/ofac-sdn.csv"), imported_at=AT),
        read_list("UN", file("un/UN_consolidated_2026-02-27.xml"), imported_at=AT),
    )


@pytest.fixture(scope="module")
def matcher(lists: tuple[SanctionsList, SanctionsList]) -> Matcher:
    return Matcher(lists)


def test_whole_lists_are_read(lists: tuple[SanctionsList, SanctionsList]) -> None:
    ofac, un = lists
    assert (len(ofac.entries), len(un.entries)) == (19_249, 1_003)
    # The publisher counts 39,443 names; four aliases repeat another name of their entry.
    assert sum(len(entry.names) for entry in ofac.entries) == 39_439
    assert sum(any(not name.isascii() for name in entry.names) for entry in un.entries) > 370


def test_the_native_layout_with_aliases() -> None:
    one = read_list("OFAC SDN", file("ofac_2024-01/sdn.csv"), aliases=file("ofac_2024-01/alt.csv"), imported_at=AT)
    assert len(one.entries) == 13_821
    assert sum(len(entry.names) for entry in one.entries) == 30_909
    assert {entry.kind for entry in one.entries} == {"individual", "entity", "vessel", "aircraft"}


def test_list_updates_grow() -> None:
    days = ("02-20", "02-23", "04-26")
    sizes = [len(read_list("x", file(f"ofac_updates/sdn_2024-{day}.csv.xz"), imported_at=AT).entries) for day in days]
    assert sizes == [13_931, 14_484, 14_668]


def test_files_of_two_versions_are_refused() -> None:
    with pytest.raises(ListError) as caught:
        read_list("x", file("ofac_2024-01/sdn.csv")[:500_000].rpartition(b"\n")[0] + b"\n",
                  aliases=file("ofac_2024-01/alt.csv"), imported_at=AT)  # fmt: skip
    assert caught.value.reason is ListRefusal.ALIAS_ORPHANED


@pytest.mark.parametrize(
    "name", ["ofac_2024-01/sdn.csv", "ofac_2026-08/ofac-sdn.csv", "un/UN_consolidated_2026-02-27.xml"]
)
def test_a_file_cut_anywhere_inside_a_line_is_refused(name: str) -> None:
    data = file(name)
    for cut in random.Random(7).sample(range(1, len(data) - 2), 25):
        if data[cut - 1 : cut] not in b"\r\n" or name.endswith("xml"):
            with pytest.raises(ListError):
                read_list("x", data[:cut], imported_at=AT)


def test_every_listed_name_hits_itself(matcher: Matcher, lists: tuple[SanctionsList, SanctionsList]) -> None:
    rng = random.Random(1)
    for one in lists:
        for entry in rng.sample(one.entries, 200):
            for name in entry.names:
                found = matcher.screen(name).matches
                assert any(m.method == "exact" and (m.list, m.entry) == (one.name, entry.id) for m in found), name


@pytest.mark.parametrize("name", ["Vladimir Putin", "صدام حسين التكريتي", "Banco Nacional de Cuba", "Usama bin Ladin"])
def test_known_names_hit(matcher: Matcher, name: str) -> None:
    assert matcher.screen(name).hit


@pytest.mark.parametrize(
    "name", ["Erika Mustermann", "Siemens Energy AG", "Maria Janssen", "Concordat Clearing Limited"]
)
def test_ordinary_names_pass(matcher: Matcher, name: str) -> None:
    assert not matcher.screen(name).hit


def test_equals_brute_force_over_the_whole_lists(matcher: Matcher, lists: tuple[SanctionsList, SanctionsList]) -> None:
    every = [name for one in lists for entry in one.entries for name in entry.names]
    keys = sorted({normalise(name) for name in every} - {""})
    rng = random.Random(3)
    with (DATA / "name_pairs" / "ofac_aka_pairs.csv").open(newline="", encoding="utf-8") as source:
        queries = [row["name2"] for row in rng.sample(list(csv.DictReader(source)), 60)]
    queries += [name[: rng.randrange(1, len(name) + 1)] + rng.choice(" xa") for name in rng.sample(every, 60)]
    for query in filter(normalise, queries):
        expected = process.extract(
            normalise(query), keys, scorer=fuzz.ratio, score_cutoff=matcher.threshold, limit=None
        )
        found = {normalise(match.listed_name) for match in matcher.screen(query).matches}
        assert found == {key for key, _, _ in expected}, query
