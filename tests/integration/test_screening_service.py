"""The screening service on a real database: imports, hits, statements, several nodes on one database."""

from __future__ import annotations

import lzma
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from bank_ledgers import ALFA, payment
from support import DATA

from gateway.federation.problems import Refusal
from gateway.federation.storage.database import asyncpg_pool
from participants.payments.screening import Screener

SANCTIONS = DATA / "sanctions"
CYCLE = "2026-10-02-01"

SDN = (
    b'101,"LISTOVIC, Ivan","individual","TEST",-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,"DOB 1960."\r\n'
    b'102,"BLACKFLEET SHIPPING CO.",-0- ,"TEST",-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- \r\n'
)
ALT = b'101,1,"aka","TESTARENKO, Vanya",-0- \r\n'
ADD = b'101,1,"1 Nowhere Street","Nowhere","Nowhere",-0- \r\n'
ONE_FILE = b'uid,name,type,programs,alternate_names\n7,"Quentin Sanctionable",individual,TEST,"Q. Sanctionable"\n'


@pytest.fixture
async def pool(new_database: Any) -> AsyncIterator[asyncpg.Pool]:
    pool = await asyncpg_pool(await new_database("participants.ledger"), max_size=3)
    yield pool
    await pool.close()


@pytest.fixture
async def screener(pool: asyncpg.Pool) -> Screener:
    screener = Screener(pool, ALFA)
    await screener.start()
    return screener


def pay(debtor: str, creditor: str = "Anna Harmless") -> Any:
    import msgspec

    return msgspec.structs.replace(payment(), debtor_name=debtor, creditor_name=creditor)


async def test_without_a_list_nothing_is_screened_and_the_statement_says_so(screener: Screener) -> None:
    assert screener.hits_for(pay("Ivan Listovic", "???")) == ()
    statement = await screener.statement(CYCLE, 0)
    assert (statement.lists, statement.screened, statement.participant) == ((), 0, ALFA)


async def test_names_and_aliases_are_found_for_both_parties(screener: Screener) -> None:
    imported = await screener.import_list("OFAC", {"sdn.csv": SDN, "alt.csv": ALT, "add.csv": ADD}, "dora")
    assert (imported.name, imported.entries) == ("OFAC", 2)
    assert [(h.party, h.entry, h.method) for h in screener.hits_for(pay("Ivan LISTOVIC"))] == [
        ("debtor", "101", "exact")
    ]
    (hit,) = screener.hits_for(pay("Anna Harmless", "Vanya Testarenko"))
    assert (hit.party, hit.listed_name, hit.score) == ("creditor", "TESTARENKO, Vanya", 100)
    (fuzzy,) = screener.hits_for(pay("Ivan Listowic"))
    assert (fuzzy.method, fuzzy.score) == ("fuzzy", 92)
    assert screener.hits_for(pay("Anna Harmless")) == ()


async def test_a_name_without_letters_is_held(screener: Screener) -> None:
    await screener.import_list("OFAC", {"sdn.csv": SDN}, "dora")
    (hit,) = screener.hits_for(pay("!!!"))
    assert (hit.party, hit.method) == ("debtor", "unscreenable")


async def test_clean_names_cost_a_lookup(screener: Screener) -> None:
    await screener.import_list("OFAC", {"sdn.csv": SDN, "alt.csv": ALT}, "dora")
    order = pay("Anna Harmless", "Bert Blameless")
    assert screener.hits_for(order) == ()
    rounds = 10_000
    started = time.perf_counter()
    for _ in range(rounds):
        screener.hits_for(order)
    assert (time.perf_counter() - started) / rounds < 20e-6


async def test_a_batch_of_new_names_is_prepared_beside_the_event_loop(screener: Screener) -> None:
    await screener.import_list("OFAC", {"sdn.csv": SDN}, "dora")
    orders = [pay(f"Customer {n}", f"Supplier {n}") for n in range(200)] + [pay("Ivan Listovic")]
    await screener.prepare(orders)
    assert [bool(screener.hits_for(order)) for order in orders] == [False] * 200 + [True]


async def test_the_newest_list_of_a_name_is_in_force_and_older_ones_stay(
    screener: Screener, pool: asyncpg.Pool
) -> None:
    await screener.import_list("OFAC", {"sdn.csv": SDN}, "dora")
    order = pay("Quentin Sanctionable")
    assert screener.hits_for(order) == ()
    with pytest.raises(Refusal, match="list_needs_second_person"):
        await screener.import_list("OFAC", {"sdn.csv.xz": lzma.compress(ONE_FILE)}, "egon")
    await screener.import_list("OFAC", {"sdn.csv.xz": lzma.compress(ONE_FILE)}, "fritz")
    assert len(screener.hits_for(order)) == 1
    assert screener.hits_for(pay("Ivan Listovic")) == ()
    assert [one.entries for one in screener.lists] == [1]
    assert await pool.fetchval("SELECT count(*) FROM screening_list") == 2


async def test_another_node_takes_up_an_import_at_the_latest_for_its_statement(
    screener: Screener, pool: asyncpg.Pool
) -> None:
    other = Screener(pool, ALFA)
    await other.start()
    imported = await screener.import_list("OFAC", {"sdn.csv": SDN, "alt.csv": ALT}, "dora")
    assert (await other.statement(CYCLE, 0)).lists == (imported,)
    assert len(other.hits_for(pay("Vanya Testarenko"))) == 1
    assert not await other.refresh()


async def test_a_restarted_node_reads_its_lists_again(screener: Screener, pool: asyncpg.Pool) -> None:
    await screener.import_list("OFAC", {"alt.csv": ALT, "sdn.csv": SDN, "add.csv": ADD}, "dora")
    await screener.import_list("one", {"list.csv": ONE_FILE}, "dora")
    again = Screener(pool, ALFA)
    await again.start()
    assert again.lists == screener.lists
    assert len(again.hits_for(pay("Vanya Testarenko", "Q. Sanctionable"))) == 2


@pytest.mark.parametrize(
    ("name", "files", "reason"),
    [
        ("", {"sdn.csv": SDN}, "list_name_invalid"),
        ("x" * 65, {"sdn.csv": SDN}, "list_name_invalid"),
        ("OFAC", {}, "list_files_missing"),
        ("OFAC", {"alt.csv": ALT}, "list_files_dont_belong_together"),
        ("OFAC", {"a.csv": SDN, "b.csv": SDN}, "list_files_dont_belong_together"),
        ("OFAC", {"a.csv": ONE_FILE, "alt.csv": ALT}, "list_files_dont_belong_together"),
        ("OFAC", {"sdn.csv": b""}, "list_empty"),
        ("OFAC", {"sdn.csv": b"hello"}, "list_unknown_layout"),
        ("OFAC", {"sdn.csv": SDN[:-10]}, "list_cut_off"),
        ("OFAC", {"sdn.csv": SDN, "alt.csv": ALT.replace(b"101", b"999")}, "list_alias_orphaned"),
        ("UN", {"un.xml": b"<!DOCTYPE x []><CONSOLIDATED_LIST/>"}, "list_doctype_refused"),
        ("OFAC", {"sdn.csv": lzma.compress(SDN)[:-20]}, "list_xz_malformed"),
    ],
)
async def test_what_is_no_list_is_refused_and_the_list_in_force_stays(
    screener: Screener, name: str, files: dict[str, bytes], reason: str
) -> None:
    await screener.import_list("OFAC", {"sdn.csv": SDN}, "dora")
    before = screener.lists
    with pytest.raises(Refusal) as refused:
        await screener.import_list(name, files, "mallory")
    assert (refused.value.reason, refused.value.status) == (reason, 422)
    assert screener.lists == before
    assert len(screener.hits_for(pay("Ivan Listovic"))) == 1


@pytest.mark.skipif(not SANCTIONS.exists(), reason="the sanctions lists aren't here: set CONCORDAT_DATA")
async def test_the_published_lists_are_imported_whole(screener: Screener) -> None:
    ofac = SANCTIONS / "ofac_2024-01"
    imported = await screener.import_list(
        "OFAC", {name: (ofac / name).read_bytes() for name in ("sdn.csv", "alt.csv", "add.csv")}, "dora"
    )
    assert imported.entries == 13_821
    (un,) = (SANCTIONS / "un").glob("*.xml")
    imported = await screener.import_list("UN", {un.name: un.read_bytes()}, "dora")
    assert imported.entries == 1_003
    (one_file,) = (SANCTIONS / "ofac_2026-08").glob("*.csv")
    imported = await screener.import_list("OFAC-2026", {one_file.name: one_file.read_bytes()}, "dora")
    assert imported.entries == 19_249
    statement = await screener.statement(CYCLE, 0)
    assert [one.name for one in statement.lists] == ["OFAC", "OFAC-2026", "UN"]
