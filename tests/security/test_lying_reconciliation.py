"""A bank that lies about its books, or floods with questions: found out, bounded, and adopted in nothing."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio
from altered_lanes import altered
from msgspec.structs import replace
from rewritten_answers import RewrittenAnswers
from running_banks import RunningBank, Town, envelope_bytes, order
from running_coordinator import ALPHA, BRAVO, CARLO
from support import uuid7

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey, b64url
from gateway.federation.http.rates import Rates
from gateway.federation.messages.reconciliation import SHARE_TYPE, ReconciliationShare
from participants.audit.fsck import fsck

pytestmark = pytest.mark.asyncio(loop_scope="module")
FEDERATION = "/federation/reconciliation"
Lie = Callable[[str, Any], Any]
"""Takes the path that was asked and the answer, bytes or what the JSON says; returns what is answered instead."""


class Lying(RewrittenAnswers):
    """A bank whose answers about its books are other ones."""

    lie: Lie = staticmethod(lambda _path, answer: answer)

    def rewrite(self, scope: Any, start: Any, body: bytes) -> bytes:
        path = scope["path"]
        if start["status"] != 200 or not path.startswith(FEDERATION):
            return body
        if path.endswith("/symbols"):
            return bytes(self.lie(path, body))
        told = self.lie(path, msgspec.json.decode(body))
        return told if isinstance(told, bytes) else msgspec.json.encode(told)


async def pay(town: Town, count: int, currency: str = "EUR") -> list[str]:
    orders = [order(100 + n, currency=currency) for n in range(count)]
    assert (await town.alpha.send("POST", "/payments/batch", {"payments": orders})).status_code == 200
    for made in (orders[-1], *orders):
        await town.alpha.until(made["id"], "posted")
    return [made["id"] for made in orders]


@asynccontextmanager
async def lies(town: Town, lie: Lie) -> AsyncIterator[None]:
    """Let BRAVO's books be told of by a liar at the address that the trust list names."""
    bravo = town.bravo
    front = bravo.app.asgi_handler
    layer = Lying(front)
    layer.lie = lie  # type: ignore[method-assign]
    bravo.app.asgi_handler = layer  # type: ignore[assignment]
    try:
        yield
    finally:
        bravo.app.asgi_handler = front


async def reconciled(bank: RunningBank, counterparty: str, currency: str) -> dict[str, Any]:
    answer = await bank.send("POST", "/reconciliations", {"counterparty": counterparty, "currency": currency})
    assert answer.status_code == 202, answer.text
    async with asyncio.timeout(60):
        while True:
            kept: dict[str, Any] = await bank.get(f"/reconciliations/{answer.json()['id']}")
            if kept["state"] in ("done", "failed") or kept.get("reason"):
                return kept
            await asyncio.sleep(0.05)


async def books(bank: RunningBank) -> tuple[int, int]:
    row = await bank.node.pool.fetchrow(
        "SELECT (SELECT sequence FROM ledger_head), (SELECT coalesce(sum(balance), 0)::bigint FROM account_balance)"
    )
    return row[0], row[1]


def other_root(path: str, answer: Any) -> Any:
    """Another tree than it has, whichever subtree is asked for."""
    if path.endswith("/lanes"):
        count = len(base64.b64decode(answer["digests"])) // 32
        return {**answer, "digests": base64.b64encode(secrets.token_bytes(32 * count)).decode()}
    return answer


def too_few_digests(path: str, answer: Any) -> Any:
    return {**answer, "digests": "AAAA"} if path.endswith("/lanes") else answer


def no_json(path: str, answer: Any) -> Any:
    return b"[" * 10_000 if path.endswith("/lanes") else answer


def endless(path: str, answer: Any) -> Any:
    return b" " * (2 * 1024 * 1024) + msgspec.json.encode(answer) if path.endswith("/lanes") else answer


@pytest.mark.parametrize(
    ("lie", "state", "reason"),
    [
        (other_root, "failed", "digests_contradict"),
        (too_few_digests, "failed", "digests_contradict"),
        (no_json, "asked", "answer_malformed"),
        (endless, "asked", "answer_too_large"),
    ],
)
async def test_a_lane_that_is_lied_about(town: Town, lie: Lie, state: str, reason: str) -> None:
    await pay(town, 20)
    before = await books(town.alpha)
    async with lies(town, lie):
        kept = await reconciled(town.alpha, BRAVO, "EUR")
    assert kept["state"] == state
    assert reason in kept["reason"]
    assert await books(town.alpha) == before


async def test_records_that_are_made_up_change_nothing(town: Town) -> None:
    """It claims another amount, a payment that nobody made, and one of another pair."""
    (id_,) = await pay(town, 1)
    made_up, foreign = uuid7(), uuid7()

    def lie(path: str, answer: Any) -> Any:
        if path.endswith("/lanes") and "size" in answer:
            return {**answer, "size": answer["size"] + 3}
        if path.endswith("/records"):
            row = {"currency": "EUR", "amount_minor": "999999", "leaf": "0" * 64, "status": "accepted", "sequence": 9}
            more = [{**row, "payment": made_up, "sender": ALPHA}, {**row, "payment": foreign, "sender": CARLO}]
            return {"records": [*answer["records"], {**row, "payment": id_, "sender": ALPHA}, *more]}
        return answer

    before = await books(town.alpha)
    async with lies(town, lie):
        kept = await reconciled(town.alpha, BRAVO, "EUR")
    shown = {item["payment"]: item["kind"] for item in kept["report"]["breaks"]}
    assert shown == {id_: "amount", made_up: "missing_here"}
    assert await books(town.alpha) == before
    assert (await town.alpha.send("GET", f"/payments/{made_up}")).status_code == 404
    assert (await fsck(town.alpha.node.database_url, ALPHA)).ok


def noise(path: str, answer: Any) -> Any:
    return secrets.token_bytes(len(answer)) if path.endswith("/symbols") else answer


def another_set(path: str, answer: Any) -> Any:
    return {**answer, "root": "0" * 64} if path.endswith("/sets") else answer


def huge_distance(path: str, answer: Any) -> Any:
    if path.endswith("/sets"):
        return {**answer, "count": 2**50, "bits": base64.b64encode(b"\xff\xff\xff\x7f" * 64).decode()}
    return secrets.token_bytes(len(answer)) if path.endswith("/symbols") else answer


def short_symbols(path: str, answer: Any) -> Any:
    return answer[:-1] if path.endswith("/symbols") else answer


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (noise, "too_many_differences"),
        (another_set, "root_differs"),
        (huge_distance, "too_many_differences"),
        (short_symbols, "symbols_malformed"),
    ],
)
async def test_a_set_that_is_lied_about(town: Town, shifted: str, lie: Lie, reason: str) -> None:
    before = await books(town.alpha)
    async with lies(town, lie):
        kept = await reconciled(town.alpha, BRAVO, shifted)
    assert (kept["state"], kept["reason"].split(":")[0]) == ("failed", reason)
    assert kept["report"].get("breaks", []) == []
    assert await books(town.alpha) == before


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shifted(town: Town) -> str:
    """The currency of a lane whose numbers don't mean the same, so that its payments are compared as a set."""
    for bank in (town.alpha, town.bravo):
        await bank.open(f"{bank.bic[0].lower()}-1", currency="JPY")
    await pay(town, 260, "JPY")
    async with altered(town.bravo.node.database_url, ALPHA, BRAVO, "JPY") as lane:
        await lane.execute("UPDATE lane_entry SET sequence = sequence + 100001 WHERE lane_id = $1")
        await lane.execute("UPDATE lane_entry SET sequence = sequence - 100000 WHERE lane_id = $1")
        await lane.execute(
            "INSERT INTO lane_entry (lane_id, sequence, payment_id, amount, leaf) VALUES ($1, 1, $2, 5, sha256('x'))",
            uuid7(),
        )
    return "JPY"


# --- a hostile caller ---------------------------------------------------------------------------------------------


async def ask(town: Town, path: str, body: Any, sender: str = CARLO, **options: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    token = town.assertion(sender, BRAVO)
    return await town.bravo.send("POST", FEDERATION + path, content, token=token, **options)


async def test_nobody_is_told_of_lanes_of_others(town: Town) -> None:
    answer = await ask(town, "/lanes", {"sender": ALPHA, "currency": "EUR", "size": 10})
    assert (answer.status_code, answer.json()["code"]) == (403, "lane_not_yours")
    (id_,) = await pay(town, 1)
    told = await ask(town, "/records", {"payments": [id_]})
    assert (told.status_code, told.json()) == (200, {"records": []})
    numbered = await ask(town, "/records", {"sender": ALPHA, "currency": "EUR", "numbers": [1]})
    assert numbered.json()["code"] == "lane_not_yours"


def share(town: Town, sender: str, *, signer: SigningKey | None = None, **changes: Any) -> Envelope:
    made = ReconciliationShare(
        sender=sender,
        receiver=BRAVO,
        made_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        key=b64url(b"\x09" + bytes(31)),
    )
    return dsse.sign(replace(made, **changes), signer or town.banks[sender].sign, payload_type=SHARE_TYPE)


@pytest.mark.parametrize(
    "changes",
    [
        {"key": b64url(bytes(32))},
        {"key": b64url(b"\x01" + bytes(31))},
        {"made_at": "2026-01-01T00:00:00Z"},
        {"receiver": ALPHA},
        {"answers": "0" * 64},
    ],
    ids=["zero", "small order", "recorded", "for another", "an answer"],
)
async def test_halves_of_a_secret_that_are_refused(town: Town, changes: dict[str, str]) -> None:
    town.bravo.node.reconciliations.answering._opened._buckets.clear()
    answer = await ask(town, "/agreements", envelope_bytes(share(town, CARLO, **changes)))
    assert (answer.status_code, answer.json()["code"]) == (422, "share_refused")


async def test_a_half_that_somebody_else_signed_is_refused(town: Town) -> None:
    town.bravo.node.reconciliations.answering._opened._buckets.clear()
    answer = await ask(town, "/agreements", envelope_bytes(share(town, CARLO, signer=SigningKey.generate())))
    assert answer.json()["code"] == "share_refused"
    answer = await ask(town, "/agreements", envelope_bytes(share(town, ALPHA)))
    assert answer.json()["code"] == "share_refused"


async def test_questions_are_bounded(town: Town) -> None:
    answering = town.bravo.node.reconciliations.answering
    answering._opened = Rates(0.2, burst=9)
    lane = {"sender": CARLO, "currency": "EUR", "size": 2**53 - 1}
    beyond = await ask(town, "/lanes", {**lane, "nodes": [[0, 5]]})
    assert (beyond.status_code, beyond.json()["code"]) == (422, "too_much_asked")
    many = await ask(town, "/lanes", {**lane, "nodes": [[0, n] for n in range(1025)]})
    assert many.status_code == 400
    assert (await ask(town, "/records", {"numbers": list(range(1001))})).status_code == 400
    half = share(town, CARLO)
    agreed = await ask(town, "/agreements", envelope_bytes(half))
    assert agreed.status_code == 200, agreed.text
    name = canonical.digest(half.payload_bytes())
    # Repeated, it is answered as before: nobody changes an agreement by showing a recorded half again.
    again = await ask(town, "/agreements", envelope_bytes(half))
    assert again.json() == agreed.json()
    unknown = await ask(
        town, "/sets", {"agreement": "0" * 64, "currency": "EUR", "lane": {"sender": CARLO, "through": 9}}
    )
    assert (unknown.status_code, unknown.json()["code"]) == (409, "agreement_unknown")
    opened = await ask(town, "/sets", {"agreement": name, "currency": "EUR", "lane": {"sender": CARLO, "through": 9}})
    assert (opened.status_code, opened.json()["count"]) == (200, 0)
    session = opened.json()["session"]
    path = f"{FEDERATION}/sets/{session}/symbols"
    own, of_alpha = town.assertion(CARLO, BRAVO), town.assertion(ALPHA, BRAVO)
    for token, first, count, status in (
        (own, 0, 16, 200),
        (own, 65_536, 1, 422),
        (own, 0, 8_193, 400),
        (of_alpha, 0, 16, 404),
    ):
        told = await town.bravo.send("GET", path, token=token, params={"first": first, "count": count})
        assert told.status_code == status, told.text
    answers = [
        await ask(town, "/sets", {"agreement": name, "currency": "EUR", "lane": {"sender": CARLO, "through": 9}})
        for _ in range(8)
    ]
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["Retry-After"]) >= 1
    flood = await asyncio.gather(*(ask(town, "/lanes", lane) for _ in range(400)))
    assert {answer.status_code for answer in flood} == {200, 429}
    # Others are answered as ever.
    assert (await ask(town, "/lanes", {**lane, "sender": ALPHA}, sender=ALPHA)).status_code == 200
