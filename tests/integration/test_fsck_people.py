"""`fsck` finds what one person did that takes two, in whatever spelling he is named twice."""

from __future__ import annotations

from typing import Any

import pytest
from bank_ledgers import ALFA, BETA, HIT, Bank, bank, connect, payment

from gateway.federation.storage.database import asyncpg_pool
from participants.audit.fsck import fsck
from participants.ledger.ceilings import Ceiling, SetCeiling
from participants.ledger.exposure import CEILINGS
from participants.payments.holds import DecideHold
from participants.payments.screening import Screener


def listed(names: int) -> dict[str, bytes]:
    rows = "".join(f"{number},Listed Person {number},individual,TEST,\n" for number in range(names))
    return {"list.csv": f"uid,name,type,programs,alternate_names\n{rows}".encode()}


async def set_ceiling(one: Bank, limit: str | None, *people: str) -> None:
    seen = one.ledger.books.limits.version(CEILINGS)
    await one.ledger.submit(SetCeiling(Ceiling(BETA, "EUR", limit), people=people, reason="because", seen=seen))


@pytest.fixture
async def url(new_database: Any) -> str:
    """The books of ALFA, where two people did each thing that takes two."""
    urls = [await new_database("participants.ledger") for _ in range(2)]
    async with bank(urls[0]) as alfa, bank(urls[1], BETA) as beta:
        await alfa.open("a-1", balance=1_000)
        await beta.open("b-1", balance=1_000)
        await set_ceiling(alfa, "500", "dora")
        await set_ceiling(alfa, "900", "dora", "egon")
        await set_ceiling(alfa, "800", "egon")
        outgoing, rejected, incoming = payment(10), payment(11), payment(12, debtor="b-1", creditor="a-1", to=ALFA)
        await alfa.order(outgoing, rejected, hits=[HIT])
        await alfa.receive(beta, incoming.terms(), hits=[HIT])
        for one, word in ((outgoing, "release"), (rejected, "reject"), (incoming, "release")):
            for person in ("dora", "egon"):
                await alfa.ledger.submit(DecideHold(one.id, person, word, "looked into it"))  # type: ignore[arg-type]
        await alfa.deliver(beta)
    async with await asyncpg_pool(urls[0], application_name="test") as pool:
        screener = Screener(pool, ALFA)
        await screener.start()
        await screener.import_list("four eyes", listed(100), "dora")
        await screener.import_list("four eyes", listed(98), "dora")
        with pytest.raises(Exception, match="another person"):
            await screener.import_list("four eyes", listed(50), "dora")
        await screener.import_list("four eyes", listed(50), "egon")
    return urls[0]


async def after(url: str, change: str) -> dict[str, str | None]:
    """Change the books behind the ledger's back, and return what fsck finds."""
    owner = await connect(url, role=None)
    await owner.execute("SET session_replication_role = replica")
    assert await owner.execute(change) not in ("UPDATE 0", "DELETE 0")
    await owner.close()
    report = await fsck(url, ALFA)
    return {check.name: check.difference for check in report.checks if not check.ok}


async def test_two_people_are_found(url: str) -> None:
    report = await fsck(url, ALFA)
    assert report.ok, [(check.name, check.difference) for check in report.checks if not check.ok]
    assert report["four_eyes"].examined >= 3 + 1 + 3 + 3


SAME = "replace(data::text, '\"egon\"', '\"DORA\"')::json"
ALONE = 'replace(data::text, \'["dora","egon"]\', \'["dora"]\')::json'


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            "UPDATE event SET data = replace(data::text, 'nora', 'ｍｏｎａ')::json WHERE type = 'accounts.opened'",
            "mona",
        ),
        ("UPDATE event SET data = replace(data::text, ',\"nora\"', '')::json WHERE type = 'accounts.opened'", "mona"),
        (f"UPDATE event SET data = {ALONE} WHERE type = 'exposure.ceilings'", "exposure.ceilings"),
        (f"UPDATE event SET data = {SAME} WHERE type = 'exposure.ceilings'", "exposure.ceilings"),
        (f"UPDATE event SET data = {SAME} WHERE type = 'payment.opinion'", "hold_same_person"),
        (
            "UPDATE event SET data = replace(data::text, '\"mona\"', '\"egon\"')::json WHERE type = 'payment.held_out'",
            "hold_maker_is_checker",
        ),
        ("UPDATE screening_list SET proposed_by = 'ＥＧＯＮ' WHERE proposed_by IS NOT NULL", "list four eyes"),
        ("UPDATE screening_list SET proposed_by = NULL WHERE proposed_by IS NOT NULL", "50 names were lost"),
    ],
)
async def test_one_person_is_found(url: str, change: str, named: str) -> None:
    found = await after(url, change)
    assert found.keys() == {"four_eyes"}
    assert named in (found["four_eyes"] or "")


async def test_a_release_that_nobody_gave_is_found(url: str) -> None:
    """One opinion is gone, and the versions after it moved up: a possible history, of one person."""
    gone = "SELECT subject FROM event WHERE type = 'payment.released'"
    await after(url, f"DELETE FROM event WHERE type = 'payment.opinion' AND version = 3 AND subject IN ({gone})")
    found = await after(url, f"UPDATE event SET version = version - 1 WHERE version > 3 AND subject IN ({gone})")
    assert "first_release" in (found["four_eyes"] or "")


@pytest.mark.parametrize(
    "older",
    [
        "UPDATE event SET schema_version = 1, data = (data::jsonb - 'people')::json WHERE type = 'accounts.opened'",
        "UPDATE event SET schema_version = 1, data = (data::jsonb - 'people' || '{\"person\":\"dora\"}')::json"
        " WHERE type = 'exposure.ceilings'",
        "UPDATE event SET schema_version = 1, data = (data::jsonb - 'actor')::json WHERE type = 'payment.held_out'",
        "UPDATE screening_list SET proposed_by = NULL, names_lost = 0",
    ],
)
async def test_who_was_not_named_by_earlier_releases_is_not_missed(url: str, older: str) -> None:
    assert await after(url, older) == {}
