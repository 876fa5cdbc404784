"""How a member calls another: one HTTP client with access tokens, correlation ids, retries and typed answers."""

from __future__ import annotations

import asyncio
import re
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec
import stamina
import structlog
from msgspec import Struct

from compliance.crypto.keys import Signer, scheme_name
from compliance.statements import KeyUse
from gateway.federation import correlation
from gateway.federation.http.answers import read_answer
from gateway.federation.http.peers import ANSWER_BYTES_MAX, AnswerRefused, Peers, Sink
from gateway.federation.identity.tokens import client_assertion
from gateway.federation.problems import PROBLEM_MEDIA_TYPE, Problem, problem
from gateway.federation.signers.key_store import KeyStore, open_keys
from gateway.federation.signers.signing import signing


class Paged(Protocol):
    """A page of a list; `next` is the cursor of the following one, None at the end."""

    @property
    def next(self) -> str | None: ...


T = TypeVar("T")
P = TypeVar("P", bound=Paged)

if not structlog.is_configured():
    # In a command, which prints what was asked for; a node says itself where its log goes.
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))

# Whoever calls says what came of it in the end; of each attempt neither a node's log nor a command need tell.
stamina.instrumentation.set_on_retry_hooks(())

ASSERTION_GRANT = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ANSWER_MALFORMED = "answer_malformed"
"""The code of an answer that can't be read; a RemoteProblem here, and never on the wire."""
INVALID_SCOPE = "invalid_scope"
"""RFC 6749's code: the issuer gives this client no token for what is asked."""
REFRESH_BEFORE_EXPIRY_S = 30
ATTEMPTS_MAX = 4
RETRY_AFTER_MAX_S = 30
TIMEOUT_S = 10.0
"""For one attempt at one request, from the connection to the last byte of the answer."""
PAGE_ROWS = 1_000
"""As many as a list gives at once."""
TOKEN_BYTES_MAX = 64 * 1024
# The other side didn't begin (429, 503), or its gateway doesn't know whether it did (502, 504).
_NOT_BEGUN = frozenset({429, 503})
_UNKNOWN = frozenset({502, 504})

Query = Mapping[str, str | int | bool | None]


@dataclass(frozen=True)
class MemberIdentity:
    """An institution's name and what signs for it. Asking for a key that isn't there raises SettingsError."""

    client_id: str
    keys_dir: Path
    scheme: str | None = None
    """The scheme that its documents and assertions are for."""

    @classmethod
    def made(cls, client_id: str, keys_dir: Path, scheme: str | None = None) -> MemberIdentity:
        """Make the keys that aren't there yet, and return the identity: what `init` does, and nothing else."""
        keys = open_keys(keys_dir)
        uses: tuple[KeyUse, ...] = ("auth", "sign", "token")
        for use in uses:
            keys.make(use)
        return cls(client_id, keys_dir, scheme)

    @classmethod
    def of_coordinator(cls, bic: str, keys_dir: Path) -> MemberIdentity:
        """Return the identity of a coordinator, whose own `sign` key names the scheme."""
        scheme = scheme_name(bic, cls(bic, keys_dir).sign.verifying_key)
        return cls(bic, keys_dir, scheme)

    @property
    def bic(self) -> str:
        return self.client_id

    @cached_property
    def keys(self) -> KeyStore:
        return open_keys(self.keys_dir)

    @cached_property
    def auth(self) -> Signer:
        """Signs assertions."""
        return self._within("auth")

    @cached_property
    def sign(self) -> Signer:
        """Signs documents."""
        return self._within("sign")

    def _within(self, use: KeyUse) -> Signer:
        signer = self.keys.signer(use)
        return signer if self.scheme is None else signer.within(self.scheme)

    @cached_property
    def token(self) -> Signer:
        """Signs access tokens, at institutions that issue them."""
        return self.keys.signer("token")


class AccessToken(Struct, frozen=True):
    """The answer of a token endpoint (RFC 6749, section 5.1)."""

    access_token: str
    expires_in: int
    token_type: str = "Bearer"  # noqa: S105 - a scheme's name


class RemoteError(Exception):
    """A call to another member didn't succeed."""


class RemoteUnavailable(RemoteError):  # noqa: N818 - reads as what it is
    """The other member couldn't be reached, or didn't answer in time."""


class RemoteProblem(RemoteError):  # noqa: N818 - RFC 9457's word
    """The other member answered with a problem. `code` is its stable reason."""

    def __init__(self, document: Problem, *, retry_after_s: int | None = None) -> None:
        super().__init__(f"{document.status} {document.code}: {document.detail}")
        self.problem = document
        self.code = document.code
        self.status = document.status
        self.detail = document.detail
        self.retry_after_s = retry_after_s


class RemoteAnswerRefused(RemoteProblem):
    """The other member's answer is larger than what was asked for, or in another encoding; asking again is no use."""


class TokenUnavailable(RemoteUnavailable):
    """The issuer, who gives tokens for the other member, couldn't be reached."""


class TokenNotGranted(RemoteProblem):
    """The issuer refused a token for the other member, which wasn't asked anything yet."""


TokenSource = Callable[[str], Awaitable[AccessToken]]
"""audience -> a fresh access token."""


class FederationClient:
    """Calls members of the scheme on behalf of one client. Belongs to one event loop; close it after use.

    Access tokens come from `issuer`'s token endpoint, or from `token_source` where given (an institution that
    issues its own).
    """

    def __init__(
        self,
        client_id: str,
        auth_key: Signer,
        issuer: str,
        *,
        timeout_s: float = TIMEOUT_S,
        token_source: TokenSource | None = None,
        verify: ssl.SSLContext | bool = True,
        scopes: Sequence[str] = ("",),
    ) -> None:
        """`scopes` are asked for with a token of the issuer's until one is had: at a bank, the role that it is for."""
        self.client_id = client_id
        self.issuer = issuer.rstrip("/")
        self._auth_key = auth_key
        self._token_source = token_source or self._request_token
        self._scopes = scopes
        self._tokens: dict[str, tuple[str, float]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._peers = Peers(timeout_s=timeout_s, verify=verify)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._peers.close()

    async def token(self, audience: str) -> str:
        """Return an access token for one member: a kept one, or a new one from 30 s before its expiry."""
        if (token := self._kept_token(audience)) is not None:
            return token
        async with self._locks.setdefault(audience, asyncio.Lock()):
            if (token := self._kept_token(audience)) is not None:
                return token
            asked_at = time.monotonic()
            fresh = await self._token_source(audience)
            self._tokens[audience] = (fresh.access_token, asked_at + fresh.expires_in - REFRESH_BEFORE_EXPIRY_S)
            return fresh.access_token

    def _kept_token(self, audience: str) -> str | None:
        token, renew_at = self._tokens.get(audience, ("", 0.0))
        return token if time.monotonic() < renew_at else None

    async def request(
        self,
        method: str,
        url: str,
        *,
        audience: str | None,
        json: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        params: Query | None = None,
        timeout_s: float | None = None,
        attempts_max: int = ATTEMPTS_MAX,
        idempotent: bool | None = None,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
        sink: Sink | None = None,
    ) -> httpx.Response:
        """Send a request with an access token for `audience` (None: without) and return the successful answer.

        Retries with back-off what certainly didn't begin (no connection, 429, 503; Retry-After is honoured), and
        what may have begun (broken connection, timeout, 502, 504) only if it is `idempotent`, which every method
        but POST is unless said otherwise. A 401 renews the token once. `timeout_s` is for one attempt in all. The
        answer's content goes to `sink` as it comes, where one is given; then nothing that may have begun is repeated.
        Raises RemoteProblem, RemoteUnavailable.
        """
        # What has come to a sink can't be taken back.
        again = sink is None and (method != "POST" if idempotent is None else idempotent)
        sent_headers = {correlation.HEADER: correlation.current() or correlation.begin(), **(headers or {})}
        if json is not None:
            content = msgspec.json.encode(json)
            sent_headers.setdefault("Content-Type", "application/json")

        async def send() -> httpx.Response:
            return await self._send(
                audience,
                method=method,
                url=url,
                content=content,
                headers=sent_headers,
                params=None if params is None else {k: v for k, v in params.items() if v is not None},
                timeout_s=timeout_s,
                answer_bytes_max=answer_bytes_max,
                sink=sink,
            )

        return await _retrying(send, url, idempotent=again, attempts_max=attempts_max)

    async def get(
        self,
        url: str,
        kind: type[T],
        *,
        audience: str | None,
        params: Query | None = None,
        timeout_s: float | None = None,
        attempts_max: int = ATTEMPTS_MAX,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
    ) -> T:
        """GET and read the answer as a `kind`."""
        answer = await self.request(
            "GET",
            url,
            audience=audience,
            params=params,
            timeout_s=timeout_s,
            attempts_max=attempts_max,
            answer_bytes_max=answer_bytes_max,
        )
        return _read(answer, kind, audience)

    async def pages(
        self,
        url: str,
        kind: type[P],
        *,
        audience: str | None,
        params: Query | None = None,
        attempts_max: int = ATTEMPTS_MAX,
    ) -> AsyncIterator[P]:
        """GET a list and yield its pages, the largest that there are."""
        asked = {**(params or {}), "limit": PAGE_ROWS}
        while True:
            page = await self.get(url, kind, audience=audience, params=asked, attempts_max=attempts_max)
            yield page
            if page.next is None:
                return
            asked["cursor"] = page.next

    async def post(
        self,
        url: str,
        kind: type[T],
        *,
        audience: str | None,
        json: Any = None,
        params: Query | None = None,
        timeout_s: float | None = None,
        attempts_max: int = ATTEMPTS_MAX,
        idempotent: bool | None = None,
    ) -> T:
        """POST and read the answer as a `kind`."""
        answer = await self.request(
            "POST",
            url,
            audience=audience,
            json=json,
            params=params,
            timeout_s=timeout_s,
            attempts_max=attempts_max,
            idempotent=idempotent,
        )
        return _read(answer, kind, audience)

    async def put(
        self, url: str, kind: type[T], *, audience: str | None, json: Any = None, timeout_s: float | None = None
    ) -> T:
        """PUT and read the answer as a `kind`."""
        answer = await self.request("PUT", url, audience=audience, json=json, timeout_s=timeout_s)
        return _read(answer, kind, audience)

    async def _send(self, audience: str | None, *, headers: dict[str, str], **request: Any) -> httpx.Response:
        """Send once, and once more with a new token if the token was refused."""
        for renewed in (False, True):
            if audience is not None:
                token = await self.token(audience)
                headers = {**headers, "Authorization": f"Bearer {token}"}
            response = await self._peers.send(headers=headers, **request)
            if response.status_code != 401 or audience is None or renewed:
                break
            if self._tokens.get(audience, ("", 0.0))[0] == token:
                del self._tokens[audience]
        if not response.is_success:
            raise _problem(response)
        return response

    async def _request_token(self, audience: str) -> AccessToken:
        """Ask the issuer for a token of the first scope that this client may have."""
        *others, last = self._scopes
        for scope in others:
            try:
                return await self._request_token_of(scope, audience)
            except TokenNotGranted as problem:
                if problem.code != INVALID_SCOPE:
                    raise
        return await self._request_token_of(last, audience)

    async def _request_token_of(self, scope: str, audience: str) -> AccessToken:
        """Ask the issuer's token endpoint (RFC 6749 4.4, RFC 7523, RFC 8707)."""

        async def send() -> httpx.Response:
            # An assertion may be used once, so every attempt signs its own.
            key = self._auth_key
            assertion = await signing(
                lambda: client_assertion(key=key, client_id=self.client_id, audience=self.issuer), key
            )
            form = {
                "grant_type": "client_credentials",
                "client_assertion_type": ASSERTION_GRANT,
                "client_assertion": assertion,
                "resource": audience,
                **({"scope": scope} if scope else {}),
            }
            response = await self._peers.send(
                "POST",
                f"{self.issuer}/oauth/token",
                content=urlencode(form).encode(),
                headers={
                    "Content-Type": "application/x-www-form-urlencoded",
                    correlation.HEADER: correlation.current() or correlation.begin(),
                },
                answer_bytes_max=TOKEN_BYTES_MAX,
            )
            if not response.is_success:
                raise _problem(response, TokenNotGranted)
            return response

        try:
            answer = await _retrying(send, self.issuer, idempotent=True, attempts_max=ATTEMPTS_MAX)
        except RemoteUnavailable as error:
            raise TokenUnavailable(str(error)) from error
        return _read(answer, AccessToken, None)


async def _retrying(
    send: Callable[[], Awaitable[httpx.Response]], url: str, *, idempotent: bool, attempts_max: int
) -> httpx.Response:
    """Send until there is an answer, or no use in it. What can't be reached is named by its URL, without a path."""

    def worth_another(error: Exception) -> bool | float:
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)):
            return True
        if isinstance(error, RemoteProblem):
            if error.status not in _NOT_BEGUN and not (idempotent and error.status in _UNKNOWN):
                return False
            return True if error.retry_after_s is None else float(min(error.retry_after_s, RETRY_AFTER_MAX_S))
        return idempotent and isinstance(error, httpx.TransportError)

    attempts = 0
    try:
        async for attempt in stamina.retry_context(
            on=worth_another, attempts=attempts_max, timeout=None, wait_initial=0.1, wait_max=5, wait_jitter=0.2
        ):
            attempts = attempt.num
            with attempt:
                response = await send()
    except AnswerRefused as error:
        raise RemoteAnswerRefused(error.document) from error
    except httpx.TransportError as error:
        parts, often = urlsplit(url), "" if attempts == 1 else f", asked {attempts} times"
        where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise RemoteUnavailable(f"{where}: {why}{often}") from error
    return response


def _read(response: httpx.Response, kind: type[T], member: str | None) -> T:
    url = response.request.url
    try:
        return read_answer(response.content, kind, peer=member or url.netloc.decode())
    except msgspec.DecodeError as error:
        raise RemoteProblem(problem(ANSWER_MALFORMED, 502, f"{url.path}: {error}")) from error


_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)


class _OAuthError(Struct, frozen=True):
    error: str
    error_description: str = ""


def _problem(response: httpx.Response, kind: type[RemoteProblem] = RemoteProblem) -> RemoteProblem:
    """Read the problem document, or the OAuth error, or make do with the status."""
    retry_after = response.headers.get("Retry-After", "")
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    document = problem(f"http_{response.status_code}", response.status_code, response.reason_phrase)
    try:
        if media_type == PROBLEM_MEDIA_TYPE:
            document = msgspec.json.decode(response.content, type=Problem)
        elif media_type == "application/json":
            oauth = msgspec.json.decode(response.content, type=_OAuthError)
            document = problem(oauth.error, response.status_code, oauth.error_description)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass  # What matters then is the status.
    return kind(document, retry_after_s=int(retry_after) if _SECONDS.fullmatch(retry_after) else None)
