"""Connections to other members: apart for each of them, and no answer larger, longer or other than was asked for.

A peer is a stranger who may have gone mad: it costs at most its own connections, one time limit and one answer of
the size that was asked for.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from functools import cached_property
from http.cookiejar import CookieJar
from typing import Any

import httpx

from gateway.federation.problems import Problem, problem
from gateway.federation.settings import Outgoing, SettingsError, is_loopback

ANSWER_BYTES_MAX = 8 * 1024 * 1024
PROBLEM_BYTES_MAX = 64 * 1024
"""Of an answer that isn't a success; what is longer is no problem document, and left unread."""
CONNECTIONS_MAX = 32
"""To one peer. Whatever else is asked of it waits for one of these."""
CONNECT_SECONDS_MAX = 5.0
ANSWER_TOO_LARGE = "answer_too_large"
ANSWER_ENCODED = "answer_encoded"

Sink = Callable[[bytes], object]
"""Takes an answer's bytes as they come."""


class AnswerRefused(Exception):  # noqa: N818 - a refusal is an answer, not an error
    """A peer's answer that isn't read to its end. `document` says why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.document: Problem = problem(code, 502, detail)


class _NoCookies(CookieJar):
    """Keeps no cookies and sends none: a peer could fill it, and each request would cost more than the one before."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        pass

    def add_cookie_header(self, request: Any) -> None:
        pass


def tls_context(outgoing: Outgoing, *, verify: bool = True) -> ssl.SSLContext:
    """Return by what others are believed over TLS, and what this side shows of itself. Raises SettingsError."""
    try:
        if outgoing.tls_ca is None:
            context = httpx.create_ssl_context(verify=verify, trust_env=False)
        else:
            context = ssl.create_default_context(cafile=outgoing.tls_ca)
        if outgoing.tls_client_cert is not None and outgoing.tls_client_key is not None:
            context.load_cert_chain(outgoing.tls_client_cert, outgoing.tls_client_key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"CONCORDAT_TLS_CA, CONCORDAT_TLS_CLIENT_CERT, _KEY: can't be used: {error}") from error
    return context


class Peers:
    """One pool of connections for each origin. Belongs to one event loop; close it after use."""

    def __init__(
        self, *, timeout_s: float, verify: ssl.SSLContext | bool = True, outgoing: Outgoing | None = None
    ) -> None:
        """`outgoing` is by what else others are called; what the environment says, if absent. Raises SettingsError."""
        self._timeout_s = timeout_s
        self._verify = verify
        self._outgoing = Outgoing.from_env() if outgoing is None else outgoing
        self._pools: dict[tuple[str, str, int | None], httpx.AsyncClient] = {}

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        # Read once for all pools: it takes longer than a request.
        if isinstance(self._verify, ssl.SSLContext):
            return self._verify
        return tls_context(self._outgoing, verify=self._verify)

    @property
    def _proxy(self) -> httpx.Proxy | None:
        url = self._outgoing.proxy
        return None if url is None else httpx.Proxy(url, ssl_context=self._tls if url.startswith("https") else None)

    def _pool(self, url: httpx.URL) -> httpx.AsyncClient:
        origin = (url.scheme, url.host, url.port)
        pool = self._pools.get(origin)
        if pool is None:
            if not self._outgoing.allows(url.scheme, url.host):
                raise httpx.UnsupportedProtocol(f"{url.host} isn't called over {url.scheme}: https:// is required")
            # Where requests go is decided by settings, never by proxy variables of the environment.
            pool = self._pools[origin] = httpx.AsyncClient(
                verify=self._tls if url.scheme == "https" else False,
                trust_env=False,
                proxy=None if is_loopback(url.host) else self._proxy,
                follow_redirects=False,
                headers={"Accept-Encoding": "identity"},
                cookies=_NoCookies(),
                limits=httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX),
            )
        return pool

    async def close(self) -> None:
        await asyncio.gather(*(pool.aclose() for pool in self._pools.values()))

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str],
        content: bytes | None = None,
        params: dict[str, str | int | bool] | None = None,
        timeout_s: float | None = None,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
        sink: Sink | None = None,
    ) -> httpx.Response:
        """Send a request once and return the answer, whatever its status.

        `timeout_s` is for all of it, from the connection to the last byte. The answer's content goes to `sink` where
        there is one and the answer is a success. Raises httpx.TransportError, AnswerRefused.
        """
        seconds = self._timeout_s if timeout_s is None else timeout_s
        pool = self._pool(httpx.URL(url))
        opening = min(seconds, CONNECT_SECONDS_MAX)
        request = pool.build_request(
            method,
            url,
            headers=headers,
            content=content,
            params=params,
            timeout=httpx.Timeout(seconds, connect=opening, pool=opening),
        )
        try:
            async with asyncio.timeout(seconds):
                answer = await pool.send(request, stream=True)
                try:
                    parts = await _read(answer, answer_bytes_max, sink)
                finally:
                    await answer.aclose()
        except TimeoutError as error:
            raise httpx.ReadTimeout(f"no whole answer within {seconds:g} s", request=request) from error
        return httpx.Response(answer.status_code, headers=answer.headers, content=b"".join(parts), request=request)


async def _read(answer: httpx.Response, bytes_max: int, sink: Sink | None) -> Sequence[bytes]:
    """Read an answer's content, as long as it is acceptable. Raises AnswerRefused."""
    if not answer.is_success:
        sink, bytes_max = None, PROBLEM_BYTES_MAX
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    parts: list[bytes] = []
    length = 0
    if encoding == "identity":
        async for part in answer.aiter_raw():
            length += len(part)
            if length > bytes_max:
                break
            if sink is None:
                parts.append(part)
            else:
                sink(part)
        else:
            return parts
    if not answer.is_success:
        return ()  # What matters then is the status.
    if encoding != "identity":
        raise AnswerRefused(ANSWER_ENCODED, f"answered in the encoding {encoding[:20]!r}, which wasn't asked for")
    raise AnswerRefused(ANSWER_TOO_LARGE, f"answered with more than {bytes_max} bytes")
