"""Orders at a bank's own API over real sockets: every answer, by the hot path and by the plain handlers alike."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from running_banks import OPENING, Town, order
from running_coordinator import ALPHA, BRAVO, CARLO
from support import uuid7

from participants.api.messages import BODY_BYTES_MAX
from participants.payments.orders import OrderReason

pytestmark = pytest.mark.asyncio(loop_scope="module")

BATCH_MAX = 8_192


def compact(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def without(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in names}


def told(answer: httpx.Response) -> tuple[int, str, str | None, Any]:
    """Return what counts of an answer: all but the correlation id."""
    body = answer.json()
    if answer.headers["Content-Type"].startswith("application/problem+json"):
        assert body.pop("instance") == answer.headers["X-Correlation-ID"]
    kind = answer.headers["Content-Type"].partition(";")[0]
    return answer.status_code, kind, answer.headers.get("Idempotency-Hit"), body


# --- single orders -------------------------------------------------------------------------------------------


async def test_an_order_is_reserved_and_repeated(town: Town) -> None:
    one = order(250)
    first, again = [await town.alpha.send("POST", "/payments", one) for _ in range(2)]
    assert told(first) == (201, "application/json", None, {"id": one["id"], "status": "reserved"})
    assert told(again) == (201, "application/json", "true", {"id": one["id"], "status": "reserved"})
    await town.alpha.until(one["id"], "posted")
    late = await town.alpha.send("POST", "/payments", one)
    assert late.headers["Idempotency-Hit"] == "true"
    assert late.content == first.content


async def test_at_once_and_often(town: Town) -> None:
    """The same order on many connections at the same time is one payment."""
    await town.alpha.open("a-often", balance=1_000)
    one = order(400, debtor_account="a-often")
    answers = await asyncio.gather(*(town.alpha.send("POST", "/payments", one) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {201}
    assert sum("Idempotency-Hit" not in answer.headers for answer in answers) == 1
    await town.alpha.until(one["id"], "posted")
    assert await town.alpha.balance("a-often") == 600


async def test_another_order_under_a_known_id(town: Town) -> None:
    one = order(250)
    assert (await town.alpha.send("POST", "/payments", one)).status_code == 201
    for change in ({"amount_minor": "251"}, {"creditor_account": "b-2"}, {"remittance": "x"}, {"debtor_name": "Ann"}):
        answer = await town.alpha.send("POST", "/payments", {**one, **change})
        assert told(answer)[0] == 409
        assert answer.json()["code"] == "id_reused"


async def test_the_receivers_id_is_taken_too(town: Town) -> None:
    """An id that came in from another bank can't be ordered under here."""
    one = order(10)
    assert (await town.alpha.send("POST", "/payments", one)).status_code == 201
    await town.bravo.until(one["id"], "accepted")
    answer = await town.bravo.send("POST", "/payments", {**one, "creditor_agent": ALPHA, "debtor_account": "b-1"})
    assert (answer.status_code, answer.json()["code"]) == (409, "id_reused")


REFUSED: dict[OrderReason, dict[str, Any]] = {
    OrderReason.CREDITOR_AGENT_IS_SELF: {"creditor_agent": ALPHA},
    OrderReason.CREDITOR_AGENT_UNKNOWN: {"creditor_agent": "NONEXXN0"},
    OrderReason.DEBTOR_ACCOUNT_UNKNOWN: {"debtor_account": "nobody"},
    OrderReason.RETURN_OF_UNKNOWN: {"returns": "00000000-0000-4000-8000-000000000000"},
    OrderReason.INSUFFICIENT_FUNDS: {"amount_minor": "999999999999999"},
}
"""The others: `id_reused` and `return_differs` have tests here and in test_payment_decisions.py,
`creditor_agent_not_active` in test_federation_payments.py, `balance_out_of_range` below."""


@pytest.mark.parametrize("reason", REFUSED)
async def test_a_refused_order_says_why_and_leaves_its_id_free(town: Town, reason: OrderReason) -> None:
    one = order(10, **REFUSED[reason])
    answer = await town.alpha.send("POST", "/payments", one)
    assert (answer.status_code, answer.json()["code"]) == (422, reason.value)
    assert answer.json()["detail"].partition(":")[0] in one
    assert (await town.alpha.send("GET", f"/payments/{one['id']}")).status_code == 404
    mended = await town.alpha.send("POST", "/payments", order(10, id=one["id"]))
    assert told(mended)[:3] == (201, "application/json", None)


async def test_a_currency_the_debtor_has_no_account_in(town: Town) -> None:
    answer = await town.alpha.send("POST", "/payments", order(10, currency="USD"))
    assert (answer.status_code, answer.json()["code"]) == (422, "debtor_account_unknown")


async def test_a_balance_out_of_range(town: Town) -> None:
    """Far more than anybody has: accounts stay inside a BIGINT, and nothing is rounded on the way there."""
    huge = 9_000_000_000_000_000_000
    await town.alpha.open("a-rich-1", "a-rich-2", currency="JPY", balance=huge // 2 - 10**15)
    accounts = [{"code": "a-rich-3", "currency": "JPY", "name": "x", "opening_balance_minor": str(huge)}]
    for person, status in (("sam", "proposed"), ("tom", "refused")):
        outcome = (await town.alpha.send("POST", "/accounts", {"accounts": accounts}, subject=person)).json()[0]
        assert outcome["status"] == status
    assert (outcome["status"], outcome["reason"]) == ("refused", "balance_out_of_range")


async def test_money_is_spent_once(town: Town) -> None:
    """Of many orders at once that share one balance, exactly as many go through as it covers."""
    await town.alpha.open("a-once", balance=500)
    orders = [order(100, debtor_account="a-once") for _ in range(12)]
    answers = await asyncio.gather(*(town.alpha.send("POST", "/payments", one) for one in orders))
    assert sorted(answer.status_code for answer in answers) == [201] * 5 + [422] * 7
    assert await town.alpha.balance("a-once") == 0


# --- batches -------------------------------------------------------------------------------------------------


async def test_each_order_of_a_batch_has_its_own_result(town: Town) -> None:
    good, poor = order(10), order(10, debtor_account="nobody")
    batch = [good, poor, {**good, "amount_minor": "11"}, good]
    first = await town.alpha.send("POST", "/payments/batch", {"payments": batch})
    assert told(first)[:2] == (200, "application/json")
    results = first.json()["results"]
    assert [one.pop("detail", "").partition(":")[0] for one in results] == ["", "debtor_account", "id", ""]
    assert results == [
        {"id": good["id"], "status": "reserved"},
        {"id": poor["id"], "status": "refused", "reason": "debtor_account_unknown"},
        {"id": good["id"], "status": "refused", "reason": "id_reused"},
        {"id": good["id"], "status": "reserved", "replayed": True},
    ]
    again = await town.alpha.send("POST", "/payments/batch", {"payments": batch})
    assert again.json()["results"] == [
        {"id": good["id"], "status": "reserved", "replayed": True},
        *first.json()["results"][1:],
    ]


async def test_the_largest_batch(town: Town) -> None:
    await town.alpha.open("a-batch", balance=BATCH_MAX)
    batch = [order(1, debtor_account="a-batch") for _ in range(BATCH_MAX)]
    answer = await town.alpha.send("POST", "/payments/batch", {"payments": batch})
    assert [one["status"] for one in answer.json()["results"]] == ["reserved"] * BATCH_MAX
    assert await town.alpha.balance("a-batch") == 0
    await town.alpha.until(batch[-1]["id"], "posted")


# --- the two ways --------------------------------------------------------------------------------------------

SINGLE: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "good": compact,
    "with remittance": lambda o: compact({**o, "remittance": "invoice 7"}),
    "empty remittance": lambda o: compact({**o, "remittance": ""}),
    "no return": lambda o: compact({**o, "returns": None}),
    "white space": lambda o: json.dumps(o, indent=2).encode(),
    "white space before colons": lambda o: json.dumps(o, separators=(" , ", " : ")).encode(),
    "members in another order": lambda o: compact(dict(reversed(o.items()))),
    "quotes and colons in a text": lambda o: compact({**o, "remittance": 'he said "yes": "no"'}),
    "braces in a text": lambda o: compact({**o, "remittance": '{"id":"x"}'}),
    "beyond ASCII": lambda o: compact({**o, "debtor_name": "Ōtsuka Łukasz 大塚"}),
    "escapes": lambda o: json.dumps({**o, "debtor_name": "Ōtsuka 大塚"}, ensure_ascii=True).encode(),
    "escaped member name": lambda o: compact(o).replace(b'"id"', b'"\\u0069d"'),
    "self": lambda o: compact({**o, "creditor_agent": ALPHA}),
    "unknown bank": lambda o: compact({**o, "creditor_agent": "NONEXXN0"}),
    "unknown account": lambda o: compact({**o, "debtor_account": "nobody"}),
    "no money": lambda o: compact({**o, "amount_minor": "999999999999999"}),
    "return of unknown": lambda o: compact({**o, "returns": "00000000-0000-4000-8000-000000000000"}),
    "amount as a number": lambda o: compact({**o, "amount_minor": 100}),
    "amount as a fraction": lambda o: compact({**o, "amount_minor": "1.5"}),
    "amount negative": lambda o: compact({**o, "amount_minor": "-5"}),
    "amount zero": lambda o: compact({**o, "amount_minor": "0"}),
    "amount with a leading zero": lambda o: compact({**o, "amount_minor": "01"}),
    "amount in other digits": lambda o: compact({**o, "amount_minor": "١٠"}),
    "amount too large": lambda o: compact({**o, "amount_minor": "1" + "0" * 15}),
    "currency unknown": lambda o: compact({**o, "currency": "euro"}),
    "id no UUID": lambda o: compact({**o, "id": "1"}),
    "id in capitals": lambda o: compact({**o, "id": o["id"].upper().replace("0", "A")}),
    "name empty": lambda o: compact({**o, "debtor_name": ""}),
    "name too long": lambda o: compact({**o, "debtor_name": "x" * 141}),
    "name with a control character": lambda o: compact({**o, "debtor_name": "a\u0007b"}),
    "member missing": lambda o: compact(without(o, "creditor_name")),
    "member unknown": lambda o: compact({**o, "purpose": "SALA"}),
    "member repeated": lambda o: compact(o)[:-1] + b',"amount_minor":"1"}',
    "member repeated the same": lambda o: compact(o)[:-1] + b',"currency":"EUR"}',
    "member repeated with white space": lambda o: compact(o)[:-1] + b',"amount_minor" :"1"}',
    "member repeated in escapes": lambda o: compact(o)[:-1] + b',"\\u0069d":"00000000-0000-4000-8000-000000000000"}',
    "null": lambda o: b"null",
    "list": lambda o: compact([o]),
    "text": lambda o: b'"x"',
    "nothing": lambda o: b"",
    "cut off": lambda o: compact(o)[:-20],
    "more after the end": lambda o: compact(o) + b"x",
    "two documents": lambda o: compact(o) + compact(o),
    "no JSON": lambda o: b"id=1&amount_minor=5",
    "NaN": lambda o: compact(o).replace(b'"EUR"', b"NaN"),
    "not UTF-8": lambda o: compact(o).replace(b"Anna", b"An\xff\xfe"),
    "byte order mark": lambda o: b"\xef\xbb\xbf" + compact(o),
    "lone surrogate": lambda o: compact(o).replace(b"Anna", b"\\ud800"),
    "nested deeply": lambda o: b"[" * 50_000,
}
ACCEPTED = {
    "good", "with remittance", "empty remittance", "no return", "white space", "white space before colons",
    "members in another order", "quotes and colons in a text", "braces in a text", "beyond ASCII", "escapes",
    "escaped member name",
}  # fmt: skip


@pytest.mark.parametrize("kind", SINGLE)
async def test_both_ways_give_the_same_answer(town: Town, kind: str) -> None:
    """First time, and again: status, problem document, pointers, replay. Refused bodies leave nothing behind."""
    one = order(10)
    other = {**one, "id": uuid7()}
    for _ in range(2):
        answers = [
            told(await town.alpha.send("POST", "/payments", SINGLE[kind](sent), plain=plain))
            for sent, plain in ((one, False), (other, True))
        ]
        hot, plain_answer = (
            json.loads(re.sub(r"'[0-9A-F-]{36}'", "'<id>'", json.dumps(answer).replace(sent["id"], "<id>")))
            for answer, sent in zip(answers, (one, other), strict=True)
        )
        assert hot == plain_answer
        assert (hot[0] == 201) == (kind in ACCEPTED), hot
        assert hot[0] in (201, 400, 422)
        if hot[0] != 201:
            assert (await town.alpha.send("GET", f"/payments/{one['id']}")).status_code == 404


BATCHES: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "one": lambda o: compact({"payments": [o]}),
    "white space": lambda o: json.dumps({"payments": [o]}, indent=1).encode(),
    "white space before colons": lambda o: json.dumps({"payments": [o]}, separators=(" , ", " : ")).encode(),
    "the same twice": lambda o: compact({"payments": [o, o]}),
    "good and refused": lambda o: compact({"payments": [o, {**o, "id": uuid7(), "debtor_account": "nobody"}]}),
    "empty": lambda o: b'{"payments":[]}',
    "without payments": lambda o: b"{}",
    "no list": lambda o: compact({"payments": o}),
    "bad third": lambda o: compact({"payments": [o, o, {**o, "amount_minor": "x"}]}),
    "payments repeated": lambda o: compact({"payments": [o]})[:-1] + b',"payments":[]}',
    "payments repeated with white space": lambda o: compact({"payments": [o]})[:-1] + b',"payments" :[]}',
    "member repeated": lambda o: compact({"payments": [o]}).replace(b'"currency":"EUR"', b'"currency":"EUR","id":""'),
    "too many": lambda o: compact({"payments": [o] * (BATCH_MAX + 1)}),
}


@pytest.mark.parametrize("kind", BATCHES)
async def test_both_ways_take_the_same_batches(town: Town, kind: str) -> None:
    one, other = order(10), order(10)
    hot, plain = [
        told(await town.alpha.send("POST", "/payments/batch", BATCHES[kind](sent), plain=plain))
        for sent, plain in ((one, False), (other, True))
    ]
    answers = [json.dumps(hot).replace(one["id"], "<id>"), json.dumps(plain).replace(other["id"], "<id>")]
    if kind == "good and refused":
        assert [r["status"] for r in hot[3]["results"]] == [r["status"] for r in plain[3]["results"]]
    else:
        assert answers[0] == answers[1]
    assert hot[0] == (200 if kind in list(BATCHES)[:5] else 400)


@pytest.mark.parametrize("plain", [False, True])
async def test_pointers_to_what_is_wrong(town: Town, plain: bool) -> None:
    async def pointers(path: str, body: Any) -> list[str | None]:
        answer = await town.alpha.send("POST", path, body, plain=plain)
        assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed"), answer.text
        return [error.get("pointer") for error in answer.json()["errors"]]

    assert await pointers("/payments", order(amount_minor="1.5")) == ["/amount_minor"]
    assert await pointers("/payments", order(currency="€")) == ["/currency"]
    batch = {"payments": [order(), order(), order(debtor_name="")]}
    assert await pointers("/payments/batch", batch) == ["/payments/2/debtor_name"]


@pytest.mark.parametrize("path", ["/payments", "/payments/batch"])
async def test_both_ways_take_the_same_tokens(town: Town, path: str) -> None:
    alpha, bravo = town.alpha, town.bravo
    body = {"payments": [order(10)]} if path.endswith("batch") else order(10)
    tokens = {
        None: (401, "token_missing"),
        "nonsense": (401, "token_malformed"),
        alpha.staff_token(now=1_700_000_000): (401, "token_expired"),
        alpha.staff_token(audience=BRAVO): (401, "token_audience_wrong"),
        bravo.staff_token(audience=ALPHA): (401, "token_key_unknown"),
        alpha.staff_token(role="auditor"): (401, "token_claims_refused"),
        alpha.staff_token(role="staff"): (401, "token_claims_refused"),
        alpha.staff_token(role="read"): (403, "role_not_allowed"),
        alpha.staff_token(scope="payments"): (403, "scope_not_allowed"),
        town.member_token("sam", ALPHA, role="orders"): (401, "token_key_unknown"),
        town.member_token(CARLO, ALPHA): (401, "token_key_unknown"),
        town.member_token("carol", ALPHA, role="auditor"): (401, "token_key_unknown"),
    }
    for token, (status, code) in tokens.items():
        answers = [told(await alpha.send("POST", path, body, token=token, plain=plain)) for plain in (False, True)]
        assert answers[0] == answers[1]
        assert answers[0][0] == status
        assert code is None or answers[0][3]["code"] == code


@pytest.mark.parametrize("plain", [False, True])
async def test_a_huge_body(town: Town, plain: bool) -> None:
    answer = await town.alpha.send("POST", "/payments", b" " * (BODY_BYTES_MAX + 1), plain=plain)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("plain", [False, True])
async def test_a_body_in_pieces(town: Town, plain: bool) -> None:
    """Chunked, a few bytes at a time: the same order."""
    one, alpha = order(10), town.alpha

    async def pieces() -> Any:
        body = compact(one)
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    url = (alpha.plain_url if plain else alpha.settings.url) + "/payments"
    headers = {"Authorization": f"Bearer {alpha.staff_token()}", "Content-Type": "application/json"}
    answer = await alpha.http.post(url, content=pieces(), headers=headers)
    assert told(answer) == (201, "application/json", None, {"id": one["id"], "status": "reserved"})


async def test_both_ways_share_one_memory(town: Town) -> None:
    """An order by the one way is replayed by the other."""
    for first in (False, True):
        one = order(10)
        assert "Idempotency-Hit" not in (await town.alpha.send("POST", "/payments", one, plain=first)).headers
        again = await town.alpha.send("POST", "/payments", one, plain=not first)
        assert (again.status_code, again.headers["Idempotency-Hit"]) == (201, "true")
        changed = await town.alpha.send("POST", "/payments", {**one, "amount_minor": "11"}, plain=not first)
        assert changed.status_code == 409


# --- other requests ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/payments/00000000-0000-4000-8000-000000000000", 404, "payment_unknown"),
        ("GET", "/payments/one", 404, "not_found"),
        ("PUT", "/payments", 405, "method_not_allowed"),
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/payments?limit=0", 400, None),
        ("GET", "/payments?cursor=%21", 400, None),
        ("GET", "/balances?at=yesterday", 400, "instant_malformed"),
    ],
)
async def test_requests_that_mean_nothing(town: Town, method: str, path: str, status: int, code: str | None) -> None:
    answer = await town.alpha.send(method, path)
    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert code is None or answer.json()["code"] == code


async def test_opening_balance_is_conserved(town: Town) -> None:
    """Whatever this module ordered: what customers had is with them, reserved, or owed to other banks."""
    await town.alpha.open("a-last", balance=OPENING)
    items = (await town.alpha.get("/accounts", limit=1000))["items"]
    assert sum(int(account["balance_minor"]) for account in items if account["currency"] == "EUR") == 0


async def test_amounts_are_digits_however_round(town: Town) -> None:
    """PostgreSQL's sums are decimals, and a round one gets an exponent from whoever isn't careful."""
    await town.alpha.open("a-round", balance=500_000)
    one = order(10_000, creditor_agent=CARLO, creditor_account="c-1", debtor_account="a-round")
    assert (await town.alpha.send("POST", "/payments", one)).status_code == 201
    await town.alpha.until(one["id"], "posted")
    lanes, balances = await town.alpha.get("/lanes"), await town.alpha.get("/balances")
    amounts = [lane["unsettled_minor"] for lane in lanes] + [balance["balance_minor"] for balance in balances]
    assert len(lanes) >= 1
    assert [amount for amount in amounts if re.fullmatch(r"-?(0|[1-9][0-9]*)", amount) is None] == []
