"""Calling another member: tokens fetched once, retries that are safe, problems understood. Over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import pytest
from litestar import Litestar, Request, Response, get, post, put
from litestar.enums import RequestEncodingType
from litestar.params import BodyKwarg, FromPath, JSONBody
from msgspec import Struct
from support import Live

from compliance.crypto import dsse
from compliance.crypto.keys import SigningKey
from compliance.statements import Member, TrustKey, TrustList
from compliance.trust import Anchor
from gateway.federation import correlation
from gateway.federation.http.client import (
    AccessToken,
    FederationClient,
    MemberIdentity,
    RemoteProblem,
    RemoteUnavailable,
)
from gateway.federation.http.node import create_app, requires
from gateway.federation.identity.tokens import Claims, TokenVerifier, issue_access_token, verify_client_assertion
from gateway.federation.membership.trust import TrustStore
from gateway.federation.problems import Refusal
from tests.support import confirmation

COORDINATOR, BANK = "CNCDXXC0", "BANKDEFF"


class Note(Struct, frozen=True, forbid_unknown_fields=True):
    text: str


class PeerNode:
    """A member's node that issues tokens to one client, counts what it is asked, and fails on demand."""

    def __init__(self, url: str, client_key: SigningKey) -> None:
        self.url = url
        self.client_key = client_key
        self.token_key = SigningKey.generate()
        self.sign_key = SigningKey.generate()
        self.calls: Counter[str] = Counter()
        self.jtis: list[str] = []
        self.failures: list[Refusal] = []
        self.token_failures: list[Refusal] = []
        self.lifetime_s = 300
        self.correlation_ids: list[str | None] = []

    def trust_list(self, version: int = 1) -> TrustList:
        keys = (
            TrustKey(kid=self.sign_key.kid, alg="Ed25519", x=self.sign_key.x, use="sign", status="active"),
            TrustKey(kid=self.token_key.kid, alg="Ed25519", x=self.token_key.x, use="token", status="active"),
        )
        house = Member(bic=COORDINATOR, name="House", kind="coordinator", status="active", url=self.url, keys=keys)
        return TrustList(version=version, issuer=self.url, members=(house,))

    def _step(self, name: str, failures: list[Refusal]) -> None:
        self.calls[name] += 1
        self.correlation_ids.append(correlation.current())
        if failures:
            raise failures.pop(0)

    def app(self) -> Litestar:
        @post("/oauth/token", opt={"public": True, "form": True}, status_code=200)
        async def token(
            data: Annotated[dict[str, str], BodyKwarg(media_type=RequestEncodingType.URL_ENCODED)],
        ) -> Response[Any]:
            """Issue a token."""
            self._step("token", self.token_failures)
            claims = verify_client_assertion(
                data["client_assertion"], audience=self.url, key_for=lambda _, __: self.client_key.verifying_key
            )
            self.jtis.append(claims.jti)
            if data["resource"] == "NOBODYXX":
                return Response({"error": "invalid_target", "error_description": "no such member"}, status_code=400)
            access_token = issue_access_token(
                key=self.token_key,
                issuer=self.url,
                subject=claims.sub,
                audience=data["resource"],
                client_id=claims.sub,
                role="participant",
                lifetime_s=self.lifetime_s,
            )
            return Response(AccessToken(access_token, self.lifetime_s))

        @get("/v2/trust-list", opt={"public": True})
        async def trust_list() -> dsse.Envelope:
            """The trust list."""
            return dsse.sign(self.trust_list(), self.sign_key)

        @get("/trust-list/confirmation", opt={"public": True})
        async def trust_list_confirmation() -> dsse.Envelope:
            """That it is the newest."""
            return confirmation(dsse.sign(self.trust_list(), self.sign_key), self.sign_key)

        @get("/notes/{name:str}", guards=[requires("participant")])
        async def read(name: FromPath[str], request: Request[str, Claims, Any]) -> Note:
            """Read a note."""
            self._step("read", self.failures)
            return Note(f"{name} of {request.user}")

        @put("/notes/{name:str}", guards=[requires("participant")])
        async def write(name: FromPath[str], data: JSONBody[Note]) -> Note:
            """Write a note."""
            self._step("write", self.failures)
            return Note(f"{name}: {data.text}")

        @post("/notes", guards=[requires("participant")])
        async def add(data: JSONBody[Note]) -> Note:
            """Add a note."""
            self._step("add", self.failures)
            return data

        async def ready() -> dict[str, str]:
            return {}

        def lookup(issuer: str, kid: str) -> Any:
            return self.token_key.verifying_key if (issuer, kid) == (self.url, self.token_key.kid) else None

        self.verifier = TokenVerifier(COORDINATOR, lookup)
        return create_app(
            title="Member",
            version="0",
            route_handlers=[token, trust_list, trust_list_confirmation, read, write, add],
            verifier=self.verifier,
            ready=ready,
        )


@pytest.fixture
def member(live: Live, tmp_path: Path) -> PeerNode:
    made: list[PeerNode] = []

    def build(url: str) -> Litestar:
        made.append(PeerNode(url, MemberIdentity.made(BANK, tmp_path / "keys").auth))
        return made[0].app()

    live(build)
    return made[0]


@pytest.fixture
async def client(member: PeerNode) -> AsyncIterator[FederationClient]:
    async with FederationClient(BANK, member.client_key, member.url, timeout_s=5) as client:
        yield client


def busy(status: int, retry_after_s: int | None = None) -> Refusal:
    return Refusal("busy", "later", status=status, retry_after_s=retry_after_s)


def test_keys_are_made_once_and_kept_private(tmp_path: Path) -> None:
    identity = MemberIdentity.made(BANK, tmp_path / "keys")
    kids = {identity.auth.kid, identity.sign.kid, identity.token.kid}
    assert len(kids) == 3
    again = MemberIdentity.made(BANK, tmp_path / "keys")
    assert {again.auth.kid, again.sign.kid, again.token.kid} == kids
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "keys").iterdir())


async def test_an_answer_is_decoded(client: FederationClient, member: PeerNode) -> None:
    note = await client.get(f"{member.url}/notes/a", Note, audience=COORDINATOR)
    assert note == Note(f"a of {BANK}")
    written = await client.put(f"{member.url}/notes/a", Note, audience=COORDINATOR, json=Note("b"))
    assert written == Note("a: b")
    added = await client.post(f"{member.url}/notes", Note, audience=COORDINATOR, json=Note("c"))
    assert added == Note("c")


async def test_one_token_serves_many_calls_at_once(client: FederationClient, member: PeerNode) -> None:
    await asyncio.gather(*(client.get(f"{member.url}/notes/a", Note, audience=COORDINATOR) for _ in range(20)))
    assert member.calls == {"token": 1, "read": 20}


async def test_a_token_is_renewed_thirty_seconds_before_its_end(client: FederationClient, member: PeerNode) -> None:
    member.lifetime_s = 31
    first = await client.token(COORDINATOR)
    assert await client.token(COORDINATOR) == first
    member.lifetime_s = 30
    second = await client.token(BANK)
    assert await client.token(BANK) != second
    assert member.calls["token"] == 3


async def test_a_refused_token_is_renewed_once(client: FederationClient, member: PeerNode) -> None:
    await client.get(f"{member.url}/notes/a", Note, audience=COORDINATOR)
    member.token_key = SigningKey.generate()
    member.verifier.forget()
    await client.get(f"{member.url}/notes/a", Note, audience=COORDINATOR)
    assert member.calls["token"] == 2
    with pytest.raises(RemoteProblem) as refused:  # a token for somebody else is no use, however new
        await client.get(f"{member.url}/notes/a", Note, audience="OTHERXX0")
    assert (refused.value.status, refused.value.code) == (401, "token_audience_wrong")
    assert member.calls["token"] == 4


async def test_every_attempt_at_a_token_signs_its_own_assertion(client: FederationClient, member: PeerNode) -> None:
    member.token_failures = [busy(503), busy(502)]
    await client.token(COORDINATOR)
    assert member.calls["token"] == 3
    await client.token(BANK)
    assert len(set(member.jtis)) == len(member.jtis) == 2


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_read_is_tried_again(client: FederationClient, member: PeerNode, status: int) -> None:
    member.failures = [busy(status), busy(status)]
    await client.get(f"{member.url}/notes/a", Note, audience=COORDINATOR)
    assert member.calls["read"] == 3


@pytest.mark.parametrize(("status", "calls"), [(429, 2), (503, 2), (502, 1), (504, 1), (500, 1), (409, 1)])
async def test_a_post_is_tried_again_only_if_it_didn_t_begin(
    client: FederationClient, member: PeerNode, status: int, calls: int
) -> None:
    member.failures = [busy(status)]
    with suppress(RemoteProblem):
        await client.post(f"{member.url}/notes", Note, audience=COORDINATOR, json=Note("c"))
    assert member.calls["add"] == calls


async def test_a_post_that_may_be_repeated_is(client: FederationClient, member: PeerNode) -> None:
    member.failures = [busy(504), busy(502)]
    await client.post(f"{member.url}/notes", Note, audience=COORDINATOR, json=Note("c"), idempotent=True)
    assert member.calls["add"] == 3


async def test_attempts_come_to_an_end(client: FederationClient, member: PeerNode) -> None:
    member.failures = [busy(503) for _ in range(9)]
    with pytest.raises(RemoteProblem) as refused:
        await client.get(f"{member.url}/notes/a", Note, audience=COORDINATOR, attempts_max=2)
    assert refused.value.status == 503
    assert member.calls["read"] == 2


async def test_retry_after_is_honoured(client: FederationClient, member: PeerNode) -> None:
    await client.token(COORDINATOR)
    member.failures = [busy(503, retry_after_s=1)]
    started = asyncio.get_running_loop().time()
    await client.get(f"{member.url}/notes/a", Note, audience=COORDINATOR)
    assert asyncio.get_running_loop().time() - started >= 1


async def test_a_refusal_is_understood(client: FederationClient, member: PeerNode) -> None:
    member.failures = [Refusal("cycle_closed", "too late", status=409, pointer="/cycle")]
    with pytest.raises(RemoteProblem) as refused:
        await client.get(f"{member.url}/notes/a", Note, audience=COORDINATOR)
    assert (refused.value.code, refused.value.status, refused.value.detail) == ("cycle_closed", 409, "too late")
    assert refused.value.problem.errors[0].pointer == "/cycle"
    assert member.calls["read"] == 1


async def test_an_oauth_error_is_understood(client: FederationClient) -> None:
    with pytest.raises(RemoteProblem) as refused:
        await client.token("NOBODYXX")
    assert (refused.value.code, refused.value.detail) == ("invalid_target", "no such member")


async def test_an_answer_of_another_form_is_a_problem(client: FederationClient, member: PeerNode) -> None:
    with pytest.raises(RemoteProblem) as refused:
        await client.get(f"{member.url}/notes/a", AccessToken, audience=COORDINATOR)
    assert refused.value.code == "answer_malformed"


async def test_the_correlation_id_travels(client: FederationClient, member: PeerNode) -> None:
    correlation.begin("payment-4711")
    await client.get(f"{member.url}/notes/a", Note, audience=COORDINATOR)
    assert member.correlation_ids == ["payment-4711"] * 2


async def test_who_can_t_be_reached_is_unavailable() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        async with FederationClient(BANK, SigningKey.generate(), url) as client:
            with pytest.raises(RemoteUnavailable):
                await client.get(f"{url}/trust-list", dsse.Envelope, audience=None, attempts_max=2)


async def test_a_post_whose_answer_was_lost_isn_t_repeated(client: FederationClient) -> None:
    received = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        received += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    for idempotent, expected in ((False, 1), (True, 1 + 3)):
        with pytest.raises(RemoteUnavailable):
            await client.request("POST", url, audience=None, json=Note("x"), idempotent=idempotent, attempts_max=3)
        assert received == expected
    server.close()
    await server.wait_closed()


async def test_an_institution_that_issues_its_own_tokens_asks_nobody(member: PeerNode) -> None:
    async def issue(audience: str) -> AccessToken:
        token = issue_access_token(
            key=member.token_key,
            issuer=member.url,
            subject=BANK,
            audience=audience,
            client_id=BANK,
            role="participant",
        )
        return AccessToken(token, 300)

    async with FederationClient(BANK, SigningKey.generate(), member.url, token_source=issue) as client:
        await client.get(f"{member.url}/notes/a", Note, audience=COORDINATOR)
    assert member.calls == {"read": 1}


async def test_the_trust_list_is_fetched_without_a_token(
    client: FederationClient, member: PeerNode, tmp_path: Path
) -> None:
    store = TrustStore.open(Anchor.of(COORDINATOR, member.sign_key.verifying_key), path=tmp_path / "trust-list.json")
    assert await store.refresh(client)
    assert not await store.refresh(client)
    assert store.current == member.trust_list()
    assert store.token_key(member.url, member.token_key.kid) is not None
    assert member.calls == {}
