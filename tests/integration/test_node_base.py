"""What every node has: who may come in, how refusals look, health, metrics, and a clean end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import IO, Annotated, Any

import httpx
import pytest
from litestar import Request, asgi, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.types import Receive, Scope, Send
from msgspec import Meta, Struct
from support import Live, free_port, private

from compliance.crypto.dsse import EvidenceError, EvidenceReason
from compliance.crypto.keys import SigningKey
from gateway.federation import correlation
from gateway.federation.build import build
from gateway.federation.http.client import RemoteProblem, RemoteUnavailable
from gateway.federation.http.edge import BODY_BYTES_MAX
from gateway.federation.http.node import create_app, requires
from gateway.federation.http.paging import Page, encode_cursor
from gateway.federation.identity.tokens import Claims, TokenVerifier, issue_access_token
from gateway.federation.problems import PROBLEM_MEDIA_TYPE, Refusal, problem

BIC = "BANKDEFF"
ISSUER = "https://coordinator.example"
KEY = SigningKey.generate()


class Line(Struct, frozen=True, forbid_unknown_fields=True):
    amount_minor: Annotated[str, Meta(pattern="^[1-9][0-9]*$")]


class Order(Struct, frozen=True, forbid_unknown_fields=True):
    lines: tuple[Line, ...]


@get("/whoami", guards=[requires("operator", "participant")])
async def whoami(request: Request[str, Claims, Any]) -> dict[str, str]:
    """Say who is asking."""
    return {"subject": request.user, "role": request.auth.role, "correlation": correlation.current() or ""}


@post("/orders/{number:int}", guards=[requires("operator")])
async def order(number: FromPath[int], data: JSONBody[Order]) -> dict[str, int]:
    """Take an order."""
    return {"number": number, "lines": len(data.lines)}


@get("/rows", guards=[requires("operator")])
async def rows(page: NamedDependency[Page]) -> dict[str, Any]:
    """List rows."""
    return {"limit": page.limit, "after": page.after}


@get("/fails/{how:str}", opt={"public": True})
async def fails(how: FromPath[str]) -> None:
    """Fail in one of the ways a handler can."""
    raise {
        "refusal": Refusal("cap_exceeded", "the cap is 5", pointer="/cap", retry_after_s=7, status=422),
        "evidence": EvidenceError(EvidenceReason.BAD_SIGNATURE, "signature of x doesn't verify"),
        "remote": RemoteProblem(problem("cycle_closed", 409, "secret of another member")),
        "unreachable": RemoteUnavailable("ConnectError"),
        "bug": RuntimeError("IBAN DE02 of Jane Doe"),
        "lost": ConnectionRefusedError("database"),
    }[how]


@asgi("/raw", opt={"raw": True, "quiet": True}, copy_scope=True)
async def raw(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def all_well() -> dict[str, str]:
    return {"database": "schema at revision 0001"}


def node(ready: Callable[[], Awaitable[dict[str, str]]] = all_well) -> Any:
    def lookup(issuer: str, kid: str) -> Any:
        return KEY.verifying_key if (issuer, kid) == (ISSUER, KEY.kid) else None

    return create_app(
        title="Test node",
        version="0",
        route_handlers=[whoami, order, rows, fails, raw],
        verifier=TokenVerifier(BIC, lookup),
        ready=ready,
    )


def bearer(role: str = "operator", audience: str = BIC) -> dict[str, str]:
    token = issue_access_token(key=KEY, issuer=ISSUER, subject="alice", audience=audience, client_id="alice", role=role)
    return {"Authorization": f"Bearer {token}"}


def sending(media_type: str = "application/json") -> dict[str, str]:
    return {**bearer(), "Content-Type": media_type}


@pytest.fixture
async def http(live: Live) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=live(node()), trust_env=False) as client:
        yield client


def check_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["Content-Type"] == PROBLEM_MEDIA_TYPE
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    assert document["code"] == code
    assert document["type"] == f"https://concordat.example/problems/{code.replace('_', '-')}"
    assert document["instance"] == response.headers[correlation.HEADER]
    return document


async def test_a_token_says_who_is_asking(http: httpx.AsyncClient) -> None:
    answer = await http.get("/whoami", headers={**bearer(), correlation.HEADER: "order-4711"})
    assert answer.json() == {"subject": "alice", "role": "operator", "correlation": "order-4711"}
    assert answer.headers[correlation.HEADER] == "order-4711"


@pytest.mark.parametrize("proposed", ["short", "x" * 65, "with space", 'quote"quote', "ünïcödé-id"])
async def test_an_odd_correlation_id_is_replaced(http: httpx.AsyncClient, proposed: str) -> None:
    answer = await http.get("/health/live", headers={correlation.HEADER: proposed.encode()})
    assert answer.headers[correlation.HEADER] != proposed
    assert len(answer.headers[correlation.HEADER]) == 36


async def test_without_a_good_token_nobody_comes_in(http: httpx.AsyncClient) -> None:
    for headers, code in (
        ({}, "token_missing"),
        ({"Authorization": "Bearer x"}, "token_malformed"),
        (bearer(audience="OTHERXX0"), "token_audience_wrong"),
    ):
        answer = await http.get("/whoami", headers=headers)
        check_problem(answer, 401, code)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_without_the_role_nobody_may(http: httpx.AsyncClient) -> None:
    document = check_problem(await http.get("/whoami", headers=bearer("auditor")), 403, "role_not_allowed")
    assert document["detail"] == "this takes the role operator or participant"


async def test_errors_point_into_the_body(http: httpx.AsyncClient) -> None:
    answer = await http.post(
        "/orders/1", headers=bearer(), json={"lines": [{"amount_minor": "1"}, {"amount_minor": "0"}]}
    )
    document = check_problem(answer, 400, "validation_failed")
    assert [error["pointer"] for error in document["errors"]] == ["/lines/1/amount_minor"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"lines":[],"extra":1}', "validation_failed"),
        (b"[]", "validation_failed"),
        (b"", "validation_failed"),
        (b'{"lines":[],"lines":[]}', "bad_request"),
        (b'{"lines":[{"amount_minor":"1","amount_minor":"9"}]}', "bad_request"),
        (b'{"lines":NaN}', "bad_request"),
        (b'{"lines":', "bad_request"),
        (b"\xff\xfe", "bad_request"),
        (b"[" * 5_000, "bad_request"),
    ],
)
async def test_a_body_that_isn_t_as_documented_is_refused(http: httpx.AsyncClient, body: bytes, code: str) -> None:
    check_problem(await http.post("/orders/1", headers=sending(), content=body), 400, code)


async def test_a_good_body_is_taken(http: httpx.AsyncClient) -> None:
    answer = await http.post("/orders/7", headers=sending(), content=b'{"lines":[{"amount_minor":"12"}]}')
    assert (answer.status_code, answer.json()) == (201, {"number": 7, "lines": 1})


async def test_every_error_is_a_problem_document(http: httpx.AsyncClient) -> None:
    check_problem(await http.get("/nowhere"), 404, "not_found")
    check_problem(await http.post("/orders/seven", headers=bearer(), content=b"{}"), 404, "not_found")
    not_allowed = await http.delete("/whoami", headers=bearer())
    check_problem(not_allowed, 405, "method_not_allowed")
    assert "GET" in not_allowed.headers["Allow"]
    check_problem(
        await http.post("/orders/1", headers=sending(), content=b"x" * (BODY_BYTES_MAX + 1)), 413, "body_too_large"
    )


async def test_a_refusal_keeps_its_reason_and_pointer(http: httpx.AsyncClient) -> None:
    answer = await http.get("/fails/refusal")
    document = check_problem(answer, 422, "cap_exceeded")
    assert document["errors"] == [{"detail": "the cap is 5", "pointer": "/cap"}]
    assert answer.headers["Retry-After"] == "7"


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        ("evidence", 422, "bad_signature"),
        ("remote", 502, "remote_refused"),
        ("unreachable", 503, "remote_unavailable"),
        ("lost", 503, "database_unavailable"),
        ("bug", 500, "internal_error"),
    ],
)
async def test_failures_tell_no_secrets(http: httpx.AsyncClient, how: str, status: int, code: str) -> None:
    answer = await http.get(f"/fails/{how}")
    check_problem(answer, status, code)
    assert "secret" not in answer.text
    assert "Jane Doe" not in answer.text


async def test_pages_have_limits_and_cursors(http: httpx.AsyncClient) -> None:
    async def ask(**params: Any) -> httpx.Response:
        return await http.get("/rows", headers=bearer(), params=params)

    assert (await ask()).json() == {"limit": 100, "after": None}
    assert (await ask(limit=1000, cursor=encode_cursor("2026-01-05", 7))).json() == {
        "limit": 1000,
        "after": ["2026-01-05", 7],
    }
    for limit in ("0", "1001", "-1", "x", "1.5"):
        check_problem(await ask(limit=limit), 400, "validation_failed")
    for cursor in ("x", "e30", "bnVsbA", "!"):
        check_problem(await ask(cursor=cursor), 400, "cursor_malformed")


async def test_a_filter_that_isn_t_there_is_refused(http: httpx.AsyncClient) -> None:
    """Whoever misspells one would take the whole list for a part of it."""
    answer = await http.get("/rows?limit=2&statsu=open&" + "x" * 100 + "=1", headers=bearer())
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed")
    assert answer.json()["errors"] == [
        {"detail": f"{name}: no query parameter of this operation, which takes cursor, limit", "parameter": name}
        for name in ("statsu", "x" * 40 + "…")
    ]


async def test_a_raw_route_is_its_own_master(http: httpx.AsyncClient) -> None:
    assert (await http.post("/raw")).status_code == 200


async def test_health_needs_no_token(http: httpx.AsyncClient) -> None:
    assert (await http.get("/health/live")).json() == {"status": "live"}
    assert (await http.get("/health/startup")).json() == {"status": "started"}
    assert (await http.get("/health/ready")).json() == {"status": "ready"}
    assert (await http.get("/metrics")).status_code == 404


async def test_a_node_tells_its_own_people_more(http: httpx.AsyncClient) -> None:
    inside = private(str(http.base_url).rstrip("/"))
    assert (await http.get(f"{inside}/health/live")).json() == {"status": "live"}
    assert (await http.get(f"{inside}/health/startup")).json() == {"status": "started"}
    assert (await http.get(f"{inside}/health/ready")).json() == {
        "build": str(build()),
        "database": "schema at revision 0001",
    }
    assert (await http.get(f"{inside}/metrics")).status_code == 200
    check_problem(await http.get(f"{inside}/whoami", headers=bearer()), 404, "not_found")


async def test_whatever_is_wrong_a_node_says_that_it_isn_t_ready(live: Live) -> None:
    async def broken() -> dict[str, str]:
        raise KeyError("no trust list of Jane Doe")

    async with httpx.AsyncClient(base_url=live(node(broken)), trust_env=False) as client:
        document = check_problem(await client.get("/health/ready"), 503, "not_ready")
        assert document["detail"] == "the node isn't ready"
        inside = private(str(client.base_url).rstrip("/"))
        assert check_problem(await client.get(f"{inside}/health/ready"), 503, "not_ready")["detail"] == "KeyError"
        assert (await client.get("/health/live")).status_code == 200


async def test_strangers_who_ask_at_once_cost_one_look_a_second(live: Live) -> None:
    looks: list[float] = []

    async def looked_at() -> dict[str, str]:
        looks.append(time.monotonic())
        if len(looks) == 1:
            raise KeyError("not yet")
        return {}

    async with httpx.AsyncClient(base_url=live(node(looked_at)), trust_env=False) as client:
        began = time.monotonic()
        answers = await asyncio.gather(*(client.get("/health/ready") for _ in range(100)))
        seconds = time.monotonic() - began
        assert len(looks) <= 2 + seconds
        # Nor does it answer by the first look for good.
        async with asyncio.timeout(20):
            while not (await client.get("/health/ready")).is_success:  # noqa: ASYNC110 - a second passes
                await asyncio.sleep(0.1)
    assert {answer.status_code for answer in answers} <= {200, 503}


async def test_metrics_count_by_route_and_never_by_path(http: httpx.AsyncClient) -> None:
    for number in (918273645501, 918273645502):
        await http.post(f"/orders/{number}", headers=sending(), content=b'{"lines":[]}')
    await http.get("/secret-path-918273645503")
    text = (await http.get(private(str(http.base_url).rstrip("/")) + "/metrics")).text
    assert 'concordat_http_requests_total{method="POST",route="/orders/{number}",status="201"}' in text
    assert 'route="unmatched",status="404"' in text
    assert "9182736455" not in text


async def test_the_api_description_tells_the_truth(http: httpx.AsyncClient) -> None:
    document = (await http.get("/schema/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert document["security"] == [{"bearer": []}]
    taken = document["paths"]["/orders/{number}"]["post"]
    refused = ["400", "401", "403", "404", "413", "415", "422", "429", "503", "default"]
    assert list(taken["responses"]) == ["201", *refused]
    assert list(taken["responses"]["default"]["content"]) == [PROBLEM_MEDIA_TYPE]
    assert taken["security"] == [{"bearer": ["operator"]}]
    assert document["paths"]["/whoami"]["get"]["security"] == [{"bearer": ["operator"]}, {"bearer": ["participant"]}]
    assert document["paths"]["/health/live"]["get"]["security"] == []
    assert "code" in document["components"]["schemas"]["Problem"]["required"]


def test_a_route_must_say_who_may_use_it() -> None:
    @get("/open-door")
    async def open_door() -> None:
        """Forgot the guard."""

    with pytest.raises(ValueError, match="route /open-door: say who may use it"):
        create_app(
            title="t",
            version="0",
            route_handlers=[open_door],
            verifier=TokenVerifier(BIC, lambda _issuer, _kid: None),
            ready=all_well,
        )


PROGRAM = """
    import asyncio, sys
    from litestar import Request, get
    from gateway.federation.identity.tokens import TokenVerifier
    from gateway.federation.http.node import create_app
    from gateway.federation.http.serve import run

    @get("/poll", opt={"public": True})
    async def poll(request: Request) -> str:
        print('{"event":"polling"}', file=sys.stderr, flush=True)
        await asyncio.wait_for(request.app.state.stopping.wait(), 30)
        return "drained"

    @get("/bug", opt={"public": True})
    async def bug() -> None:
        raise RuntimeError("IBAN of Jane Doe")

    async def ready() -> dict[str, str]:
        return {}

    async def cannot_start() -> None:
        raise RuntimeError("no database")

    run(
        create_app(
            title="t",
            version="0",
            route_handlers=[poll, bug],
            verifier=TokenVerifier("X", lambda i, k: None),
            ready=ready,
            on_startup=[cannot_start] if sys.argv[2] == "broken" else [],
        ),
        host="127.0.0.1",
        port=int(sys.argv[1]),
    )
"""


def start(port: int, how: str = "well") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(port), how],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(stream: IO[str], words: str, lines: list[str]) -> str:
    """Read lines until one holds the words; keep them all."""
    for line in stream:
        lines.append(line)
        if words in line:
            return line
    raise AssertionError(f"ended before {words!r}: {''.join(lines)}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_node_told_to_stop_answers_first_and_ends_with_0(number: signal.Signals) -> None:
    process = start(port := free_port())
    assert process.stderr is not None
    lines: list[str] = []
    read_until(process.stderr, "running on", lines)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as client:
        assert (await client.get("/bug")).status_code == 500
        polling = asyncio.create_task(client.get("/poll"))
        assert "polling" in await asyncio.to_thread(read_until, process.stderr, "polling", lines)
        os.kill(process.pid, number)
        assert (await polling).text == "drained"
    rest = await asyncio.to_thread(process.stderr.read)
    assert await asyncio.to_thread(process.wait, 20) == 0
    process.stderr.close()
    records = [json.loads(line) for line in [*lines, *rest.splitlines()]]
    bug = next(record for record in records if record["event"] == "request failed")
    assert bug["exception"].startswith("builtins.RuntimeError at <string>")
    requests = {record["route"]: record for record in records if record["event"] == "request"}
    assert requests["/bug"]["status"] == 500
    assert requests["/bug"]["correlation_id"] == bug["correlation_id"]
    assert "/metrics" not in requests
    assert "Jane Doe" not in rest


def test_a_node_that_can_t_start_says_so_by_its_exit_code() -> None:
    process = start(free_port(), "broken")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "no database" in errors
