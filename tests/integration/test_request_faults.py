"""A wrong request is told all that is wrong with it: where, what it says, and what is right, in words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import date
from typing import Annotated, Any, Literal

import httpx
import pytest
from litestar import get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, HeaderParameter, JSONBody, PathParameter, QueryParameter
from litestar.response import Stream
from support import Live

from compliance.statements import CurrencyCode, CycleId
from gateway.federation.http.faults import ERRORS_MAX
from gateway.federation.http.node import create_app
from gateway.federation.http.paging import Page
from gateway.federation.http.parameters import form_of
from gateway.federation.identity.tokens import TokenVerifier
from gateway.federation.messages.base import Request
from participants.api.messages import BATCH_BYTES_MAX, OrderBatch
from participants.api.orders import OrderRequest
from tests.integration.test_node_base import BIC, all_well, check_problem

JSON = {"Content-Type": "application/json"}
ORDER = {
    "id": "0190a7d8-5f3c-7c1e-9a51-3f2b8c6d4e10",
    "creditor_agent": "BRCHXXB0",
    "amount_minor": "100",
    "currency": "EUR",
    "debtor_account": "A-1",
    "debtor_name": "Ada",
    "creditor_account": "B-1",
    "creditor_name": "Bruno",
}


class Login(Request, frozen=True):
    name: str
    client_secret: Annotated[str, "in base64"]
    level: Literal["low", "high"] = "low"
    pair: tuple[CurrencyCode, CurrencyCode] | None = None
    notes: dict[str, int] = {}  # noqa: RUF012 - msgspec copies it


@post("/orders", opt={"public": True})
async def order(data: JSONBody[OrderRequest]) -> None:
    """Take an order."""


@post("/batches", opt={"public": True}, request_max_body_size=BATCH_BYTES_MAX)
async def batch(data: JSONBody[OrderBatch]) -> None:
    """Take many."""


@put("/logins/{cycle:str}", opt={"public": True})
async def login(
    cycle: Annotated[str, PathParameter(**form_of(CycleId))],
    data: JSONBody[Login],
    day: Annotated[date | None, QueryParameter(name="date")] = None,
    kinds: Annotated[list[Literal["a", "b"]] | None, QueryParameter(name="kind")] = None,
    last: Annotated[int | None, HeaderParameter(name="Last-Event-ID", ge=0)] = None,
) -> None:
    """Take a bit of everything."""


@get("/rows/{number:int}", opt={"public": True})
async def rows(
    number: FromPath[int],
    page: NamedDependency[Page],
    currency: Annotated[str, QueryParameter(**form_of(CurrencyCode))],
) -> int:
    """List rows."""
    return number


ended = asyncio.Event()


@get("/ticks", opt={"public": True})
async def ticks() -> Stream:
    """Go on for ever."""

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"tick\n"
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    return Stream(endless())


@pytest.fixture
async def http(live: Live) -> AsyncIterator[httpx.AsyncClient]:
    def node() -> Any:
        return create_app(
            title="Test node",
            version="0",
            route_handlers=[order, batch, login, rows, ticks],
            verifier=TokenVerifier(BIC, lambda issuer, kid: None),
            ready=all_well,
        )

    async with httpx.AsyncClient(base_url=live(node()), trust_env=False) as client:
        yield client


def faults(answer: httpx.Response) -> dict[str, str]:
    """Return what is told, by where."""
    errors = check_problem(answer, 400, "validation_failed")["errors"]
    return {error.get("pointer", error.get("parameter", error.get("header"))): error["detail"] for error in errors}


async def test_five_faults_are_told_at_once(http: httpx.AsyncClient) -> None:
    wrong: Mapping[str, Any] = {
        **{name: value for name, value in ORDER.items() if name != "id"},
        "creditor_agent": "BRCH",
        "amount_minor": 12.5,
        "currency": "eur",
        "creditor_name": "A\u202eB",
        "urgent": True,
    }
    told = faults(await http.post("/orders", json=wrong))
    assert told == {
        "/id": "id: missing; it takes a UUID in small letters (RFC 9562)",
        "/creditor_agent": (
            "creditor_agent: 'BRCH'; it takes a BIC: 8 or 11 letters and digits, the fifth and sixth letters (ISO 9362)"
        ),
        "/amount_minor": (
            "amount_minor: 12.5; it takes a positive whole number of minor units,"
            " as a text of at most 15 digits without leading zeros"
        ),
        "/currency": "currency: 'eur'; it takes a currency's three capital letters (ISO 4217)",
        "/creditor_name": (
            "creditor_name: 'A\\u202eB'; it takes a text of 1 to 140 characters,"
            " not blank, and none a control, a line break, unseen, or turning the direction of writing"
        ),
        "/urgent": told["/urgent"],
    }
    assert told["/urgent"].startswith("urgent: no member of this object, which takes id, amount_minor, ")


async def test_every_bad_order_of_a_batch_is_pointed_at(http: httpx.AsyncClient) -> None:
    bad = {**ORDER, "currency": "E", "debtor_name": ""}
    told = faults(await http.post("/batches", json={"payments": [ORDER, bad, ORDER, 7, bad], "atomic": "yes"}))
    assert sorted(told) == [
        "/atomic", "/payments/1/currency", "/payments/1/debtor_name", "/payments/3",
        "/payments/4/currency", "/payments/4/debtor_name",
    ]  # fmt: skip
    assert told["/atomic"] == "atomic: 'yes'; it takes true or false"
    assert told["/payments/3"] == "item 3: 7; it takes an object"


async def test_there_is_an_end_to_what_is_told(http: httpx.AsyncClient) -> None:
    crowd = {"payments": [{**ORDER, "currency": "E"}] * 8_192, "x" * 5_000: 1}
    answer = await http.post("/batches", json=crowd)
    errors = check_problem(answer, 400, "validation_failed")["errors"]
    assert len(errors) == ERRORS_MAX + 1
    assert errors[-1] == {"detail": f"there are more than these {ERRORS_MAX}"}
    assert len(answer.content) < 20_000


async def test_what_a_type_says_beyond_its_members_is_told(http: httpx.AsyncClient) -> None:
    # In NFC each of these letters is two, so the name is longer than there is room for.
    told = faults(await http.post("/orders", json={**ORDER, "debtor_name": "\u0958" * 140}))
    assert told == {"/debtor_name": "debtor_name: it is too long"}


async def test_parameters_and_headers_are_told_with_the_body(http: httpx.AsyncClient) -> None:
    body = {"name": 1, "client_secret": 12345, "level": "deep", "pair": ["EUR"], "notes": {"a/b": "x"}}
    told = faults(
        await http.put(
            "/logins/today?date=tomorrow&kind=a&kind=c&day=2026-01-01", json=body, headers={"Last-Event-ID": "-1"}
        )
    )
    assert told == {
        "day": "day: no query parameter of this operation, which takes date, kind",
        "cycle": "cycle: 'today'; it takes a cycle: its value date and number",
        "date": "date: 'tomorrow'; it takes a date, such as 2026-11-27",
        "kind": "kind: 'c'; it takes one of a, b",
        "Last-Event-ID": "Last-Event-ID: '-1'; it takes a whole number, at least 0",
        "/name": "name: 1; it takes a text",
        "/client_secret": "client_secret: what it says isn't shown; it takes a text",
        "/level": "level: 'deep'; it takes one of high, low",
        "/pair": "pair: an array of 1; it takes an array of 2",
        "/notes/a~1b": "a~1b: 'x'; it takes a whole number",
    }


async def test_a_parameter_is_given_once(http: httpx.AsyncClient) -> None:
    told = faults(await http.get("/rows/1?limit=1&limit=2&cursor=W10"))
    assert told == {
        "limit": "limit: given twice, and one is taken",
        "currency": "currency: missing; it takes a currency's three capital letters (ISO 4217)",
    }
    assert (await http.get("/rows/1?currency=EUR&limit=2")).json() == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"null", "the body is missing; it takes an object"),
        (b"", "the body is missing; it takes an object"),
        (b"[]", "the body: an array of 0; it takes an object"),
        (b'"\\u202e"', "the body: '\\u202e'; it takes an object"),
    ],
)
async def test_a_body_that_is_no_object(http: httpx.AsyncClient, content: bytes, said: str) -> None:
    assert faults(await http.post("/orders", content=content, headers=JSON)) == {"": said}


async def test_a_repeated_member_is_named(http: httpx.AsyncClient) -> None:
    answer = await http.post("/orders", content=b'{"id": 1, "currency": 2, "currency": 3}', headers=JSON)
    document = check_problem(answer, 400, "bad_request")
    assert document["detail"].endswith("the member currency is repeated")


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON;charset=UTF-8",
        'application/json; charset="utf-8"',
    ],
)
async def test_json_by_any_spelling_is_taken(http: httpx.AsyncClient, media_type: str) -> None:
    answer = await http.post("/orders", content=json.dumps(ORDER), headers={"Content-Type": media_type})
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, "Content-Type is missing; this takes application/json"),
        *(
            ({"Content-Type": one}, f"Content-Type is '{one}'; this takes application/json, and no charset but utf-8")
            for one in (
                "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1",
                "application/problem+json", "json", "*/*", "application/json, text/plain",
            )
        ),
        ({**JSON, "Content-Encoding": "gzip"}, "Content-Encoding is 'gzip'; this takes a body as it is"),
    ],
)  # fmt: skip
async def test_another_kind_of_body_is_refused(http: httpx.AsyncClient, headers: dict[str, str], said: str) -> None:
    answer = await http.post("/orders", content=json.dumps(ORDER), headers=headers)
    assert check_problem(answer, 415, "unsupported_media_type")["detail"] == said
    assert answer.headers["Accept"] == "application/json"


async def test_head_is_get_without_its_content(http: httpx.AsyncClient) -> None:
    read, head = await http.get("/rows/1?currency=EUR"), await http.head("/rows/1?currency=EUR")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == read.headers["Content-Length"]
    assert (await http.head("/rows/1")).status_code == 400
    refused = await http.head("/orders")
    assert (refused.status_code, allowed(refused)) == (405, {"OPTIONS", "POST"})
    wrong = await http.delete("/rows/1")
    detail = check_problem(wrong, 405, "method_not_allowed")["detail"]
    assert detail == "DELETE is no method of this path, which takes GET, HEAD, OPTIONS"
    assert allowed(wrong) == {"GET", "HEAD", "OPTIONS"}


async def test_head_of_what_has_no_end_ends(http: httpx.AsyncClient) -> None:
    assert (await http.head("/ticks")).status_code == 200
    async with asyncio.timeout(20):
        while not ended.is_set():  # noqa: ASYNC110 - it is set by another thread's loop
            await asyncio.sleep(0.02)


def allowed(answer: httpx.Response) -> set[str]:
    return set(answer.headers["Allow"].split(", "))
