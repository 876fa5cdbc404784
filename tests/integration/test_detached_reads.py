"""What a node answers of payments in a part of the journal that was taken out: that it was, in each operation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from running_banks import RunningBank, Town, order, running_town
from running_coordinator import ALPHA, BRAVO
from support import uuid7

from gateway.federation.storage.postgres import dsn

pytestmark = pytest.mark.asyncio(loop_scope="module")
# As taking out what was written so far leaves it: the keys of these payments, and where the journal begins.
TAKE_OUT = """
SET session_replication_role = replica;
DELETE FROM posting WHERE event_sequence IN (SELECT sequence FROM event_key WHERE subject = '{id}');
DELETE FROM event WHERE subject = '{id}';
INSERT INTO journal_closing (bound, account_id, version, balance)
SELECT h.sequence + 1, b.account_id, b.version, b.balance FROM account_balance b CROSS JOIN ledger_head h
WHERE b.version > 0;
INSERT INTO journal_archive (first, bound, manifest, manifest_sha256, kept, ends_at)
SELECT 0, sequence + 1, '{{}}', sha256(''), 0, now() FROM ledger_head;
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    directory: Path = tmp_path_factory.mktemp("town")
    async with running_town(postgres_url, directory, (ALPHA, BRAVO)) as running:
        yield running


async def take_out(bank: RunningBank, payment_id: str) -> None:
    connection = await asyncpg.connect(dsn(bank.node.database_url))
    await connection.execute("RESET ROLE; " + TAKE_OUT.format(id=payment_id))
    await connection.close()


async def test_nothing_detached_is_unknown(town: Town) -> None:
    batch, one, other = uuid7(), order(5), order(6)
    body = {"id": batch, "name": "f.csv", "payments": [one, other]}
    assert (await town.alpha.send("POST", "/payments/batch", body)).status_code == 200
    for payment in (one, other):
        await town.alpha.until(payment["id"], "posted")
        await town.bravo.until(payment["id"], "accepted")
    old, new = one["id"], order(7)
    for bank in (town.alpha, town.bravo):
        await take_out(bank, old)

    async def said(bank: RunningBank, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, str]:
        answer = await bank.send(method, path, body, **options)
        return answer.status_code, answer.json().get("code", answer.text)

    member = {"token": town.assertion(ALPHA, BRAVO)}
    asked: list[tuple[RunningBank, str, str, Any, dict[str, Any]]] = [
        (town.alpha, "GET", f"/payments/{old}", None, {}),
        (town.alpha, "POST", f"/payments/{old}/cancellation", None, {}),
        (town.alpha, "PUT", f"/payments/{old}/dispute", {"reason": "a"}, {}),
        (town.alpha, "DELETE", f"/payments/{old}/dispute", None, {}),
        (town.alpha, "POST", f"/payments/{old}/recalls", {"id": uuid7(), "reason": "DUPL"}, {}),
        (town.bravo, "POST", f"/payments/{old}/recalls/{uuid7()}/refusal", {"reason": "CUST"}, {}),
        (town.bravo, "POST", f"/payments/{old}/recalls/{uuid7()}/return", {"id": uuid7()}, {}),
        (town.bravo, "POST", f"/payments/{old}/return", {"id": uuid7()}, {}),
        (town.bravo, "POST", f"/holds/{old}/decisions", {"decision": "release", "reason": "a"}, {}),
        (town.bravo, "GET", f"/federation/payments/{old}/evidence", None, member),
    ]
    answers = {f"{method} {path}": await said(bank, method, path, body, **o) for bank, method, path, body, o in asked}
    assert answers == dict.fromkeys(answers, (410, "journal_detached"))
    # A bank's own people hear which part to put back; another bank hears nothing of how long this journal is.
    for bank, method, path, body, options in asked:
        answer = await bank.send(method, path, body, **options)
        assert ("put journal-0-" in answer.json()["detail"]) == ("/federation/" not in path), answer.text
    unknown = await said(town.bravo, "GET", f"/federation/payments/{uuid7()}/evidence", **member)
    assert unknown == (404, "payment_unknown")

    for path in (f"/payments?batch={batch}", "/payments?file=f.csv", f"/batches/{batch}", f"/batches/{batch}/orders"):
        assert (await town.alpha.get(path)).get("detached_until") is not None, path
    cancelled = await town.alpha.send("POST", "/payments/cancellations", {"payments": [old, uuid7()]})
    assert [one["reason"] for one in cancelled.json()["results"]] == ["journal_detached", "payment_unknown"]
    # The lane goes on.
    assert (await town.alpha.send("POST", "/payments", new)).status_code == 201
    await town.alpha.until(new["id"], "posted")
