"""Where a webhook may lead: hosts that whoever runs the node has named, at addresses that are nobody's private network.

The address is looked at when the connection is made, and it is that very address that is connected to: a name that
leads elsewhere since it was looked at leads nowhere. Redirects aren't followed and no proxy is asked.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

import httpcore

from gateway.federation.http.peers import tls_context
from gateway.federation.problems import Refusal, RefusalReason
from gateway.federation.settings import Outgoing

SEND_SECONDS_MAX = 15.0
"""From the look-up of the name to the last byte of the answer that is read."""
ANSWER_BYTES_MAX = 16 * 1024
"""Of an answer that is read so that the connection can be used again; what is longer costs its connection."""
CONNECTIONS_MAX = 32
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = 0x0000_5EFE
# What IANA's registries of special-purpose addresses name, and old standards kept apart, and `is_global` calls global.
_SPECIAL = tuple(
    map(
        ip_network,
        (
            "192.0.0.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.175.48.0/24", "2001::/23",
            "2002::/16", "2620:4f:8000::/48", "3fff::/20", "5f00::/16", "64:ff9b:1::/48", "fec0::/10",
        ),
    )
)  # fmt: skip
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
Address = IPv4Address | IPv6Address


class TargetReason(RefusalReason):
    """Why nothing is sent to an address, in order of precedence."""

    WEBHOOK_URL_MALFORMED = "webhook_url_malformed", 422
    """Not an https URL in ASCII, or one with a user name or a fragment in it."""
    WEBHOOK_URL_INSECURE = "webhook_url_insecure", 422
    """http leads to this very machine only."""
    WEBHOOK_HOST_NOT_ALLOWED = "webhook_host_not_allowed", 422
    """The host isn't one that `CONCORDAT_WEBHOOK_HOSTS` names."""


class Targets:
    """What may be sent to, by name and by address."""

    def __init__(self, hosts: Sequence[str], networks: Sequence[str]) -> None:
        """`hosts` are names, `*.` and a name for all below it; `networks` are private ones that are allowed as well."""
        self._hosts = [host.lower() for host in hosts]
        self._networks = [ip_network(network) for network in networks]

    def require(self, url: str) -> None:
        """Raise Refusal unless events may be sent to a URL."""
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if (
            not host
            or not url.isascii()
            or not url.isprintable()
            or " " in url
            or parts.fragment
            or "@" in parts.netloc
        ):
            raise Refusal(TargetReason.WEBHOOK_URL_MALFORMED, "not an https URL that could be sent to", pointer="/url")
        if parts.scheme not in ("https", "http"):
            raise Refusal(TargetReason.WEBHOOK_URL_MALFORMED, "neither https nor http", pointer="/url")
        if parts.scheme == "http" and host not in _LOOPBACK:
            raise Refusal(TargetReason.WEBHOOK_URL_INSECURE, f"{host} isn't this machine: https", pointer="/url")
        if not any(_names(pattern, host) for pattern in self._hosts):
            detail = f"CONCORDAT_WEBHOOK_HOSTS doesn't name {host}"
            raise Refusal(TargetReason.WEBHOOK_HOST_NOT_ALLOWED, detail, pointer="/url")

    def allows(self, address: str) -> bool:
        """Tell whether an address may be connected to."""
        reached = ip_address(address.partition("%")[0])
        return all(self._is_open(each) for each in (reached, *_inside(reached)))

    def _is_open(self, address: Address) -> bool:
        if any(address in network for network in self._networks):
            return True
        special = address.is_multicast or address.is_reserved or address.is_unspecified
        return address.is_global and not special and not any(address in network for network in _SPECIAL)


def _names(pattern: str, host: str) -> bool:
    """Tell whether an entry of the list names a host."""
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _inside(address: Address) -> Iterable[IPv4Address]:
    """Return the IPv4 addresses that one of IPv6 leads to."""
    if isinstance(address, IPv6Address):
        for embedded in (address.ipv4_mapped, address.sixtofour, (address.teredo or (None, None))[1]):
            if embedded is not None:
                yield embedded
        # ISATAP has it in the interface's identifier, with a bit that says whether it is unique.
        if address in _NAT64 or (int(address) >> 32) & 0xFDFF_FFFF == _ISATAP:
            yield IPv4Address(int(address) & 0xFFFF_FFFF)


class _CheckedBackend(httpcore.AnyIOBackend):
    """Connects to the addresses behind a name that are allowed, and to no others."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} isn't known") from error
        addresses = [str(answer[4][0]) for answer in answers]
        allowed = [address for address in addresses if self._targets.allows(address)]
        if not allowed:
            raise httpcore.ConnectError(f"{host} is {', '.join(addresses[:4])}: not an address that may be sent to")
        for address in allowed[:-1]:
            with suppress(httpcore.ConnectError):
                return await super().connect_tcp(address, port, timeout, local_address, socket_options)
        return await super().connect_tcp(allowed[-1], port, timeout, local_address, socket_options)


class WebhookClient:
    """Posts messages. Belongs to one event loop; close it after use."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls_context(Outgoing.from_env()),
            network_backend=_CheckedBackend(targets),
            max_connections=CONNECTIONS_MAX,
            keepalive_expiry=30.0,
        )

    async def close(self) -> None:
        await self._pool.aclose()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, int | None]:
        """Return the status of the answer, and after how many seconds it asks to be tried again.

        Raises OSError, TimeoutError, httpcore's errors, Refusal where the URL isn't allowed any more.
        """
        self._targets.require(url)
        waits = dict.fromkeys(("connect", "read", "write", "pool"), SEND_SECONDS_MAX)
        head: dict[bytes | str, bytes | str] = {
            "Host": urlsplit(url).netloc,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "User-Agent": "concordat",
            "Accept-Encoding": "identity",
        }
        head.update(headers.items())
        async with (
            asyncio.timeout(SEND_SECONDS_MAX),
            self._pool.stream("POST", url, headers=head, content=body, extensions={"timeout": waits}) as answer,
        ):
            length = 0
            async for part in answer.aiter_stream():
                length += len(part)
                if length > ANSWER_BYTES_MAX:
                    break
            again = {name.lower(): value for name, value in answer.headers}.get(b"retry-after", b"")
            return answer.status, int(again) if again.isdigit() and len(again) < 9 else None
