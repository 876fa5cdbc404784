"""What tests of several kinds share."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
from litestar import Litestar
from msgspec.structs import replace

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.cycle.audience import Reader
from compliance.statements import TrustListConfirmation
from gateway.coordinator.clock import timestamp
from gateway.demo.processes import free_ports

DATA = Path(os.environ.get("CONCORDAT_DATA") or Path(__file__).parents[2] / "shared" / "data")
"""The public data sets, which aren't part of the project. What needs one that isn't there is skipped and says so."""

NewDatabase = Callable[..., Awaitable[str]]
"""The fixture `new_database`: the name of a package, or none, to the URL of a fresh database."""
Live = Callable[[Litestar | Callable[[str], Litestar]], str]
"""The fixture `live`: an application, or what makes one for a URL, to the URL where it is served."""


ANY_PRIVATE_PORT = ("127.0.0.1", 0)
_private_urls: dict[str, str] = {}


def keep_private(url: str, port: int | None) -> None:
    """Remember on which port a node that answers at a URL tells its own people more."""
    assert port is not None
    _private_urls[url] = f"http://127.0.0.1:{port}"


def private(url: str) -> str:
    """Return the private base URL of a node that a test serves, by its public one."""
    return _private_urls[url]


def free_port() -> int:
    """Return a loopback port that is free now."""
    return free_ports(1)[0]


def uuid7() -> str:
    """Return a new UUIDv7 (RFC 9562): ids in the order of time keep a B-tree's insertions together."""
    milliseconds = time.time_ns() // 1_000_000
    tail = random.getrandbits(74)
    value = (milliseconds << 80) | (7 << 76) | ((tail >> 62) << 64) | (2 << 62) | (tail & (2**62 - 1))
    return str(UUID(int=value))


def confirmation(
    trust_list: Envelope, signer: SigningKey, *, at: float | None = None, valid_s: float = 86_400
) -> Envelope:
    """Return a coordinator's word that a trust list is the newest, by default now."""
    confirmed_at = datetime.fromtimestamp(time.time() if at is None else at, UTC)
    payload = trust_list.payload_bytes()
    word = TrustListConfirmation(
        version=msgspec.json.decode(payload)["version"],
        sha256=canonical.digest(payload),
        confirmed_at=timestamp(confirmed_at),
        expires_at=timestamp(confirmed_at + timedelta(seconds=valid_s)),
    )
    return dsse.sign(word, signer)


def with_junk(envelope: Envelope, *, second: SigningKey) -> list[tuple[Envelope, str]]:
    """Return an envelope with what no honest signer puts there, and the reason that it is refused for."""
    signatures = envelope.signatures
    genuine = signatures[-1]
    again = dsse.seal(envelope.payload_bytes(), envelope.document_type, second).signatures[0]
    stranger = dsse.seal(envelope.payload_bytes(), envelope.document_type, SigningKey.generate()).signatures[0]
    beside = [
        dsse.Signature("unheard-of", genuine.sig),
        dsse.Signature("x" * 10_000, "AAAA"),
        dsse.Signature(genuine.keyid, "not base64!"),
        genuine,
        stranger,
        again,
    ]
    # The last character before the padding has spare bits: another character, the same bytes.
    odd = dsse.Signature(genuine.keyid, genuine.sig[:-3] + chr(ord(genuine.sig[-3]) + 1) + "==")
    spaced = dsse.Signature(genuine.keyid, genuine.sig + "\n")
    return [
        *((replace(envelope, signatures=(*signatures, junk)), "too_many_signatures") for junk in beside),
        *((replace(envelope, signatures=(junk, *signatures)), "too_many_signatures") for junk in beside),
        (replace(envelope, signatures=(*signatures, *(stranger for _ in range(250)))), "too_many_signatures"),
        *((replace(envelope, signatures=(*signatures[:-1], junk)), "bad_signature") for junk in (odd, spaced)),
        (replace(envelope, payload=envelope.payload + "\u00e9"), "payload_malformed"),
        (replace(envelope, payload="\u00e9" * 4 + envelope.payload), "payload_malformed"),
    ]


def reading_as(participant: str | None) -> Callable[[], Awaitable[Reader]]:
    """Return who reads the feed: an active participant, or an operator."""

    async def reader() -> Reader:
        if participant is None:
            return Reader("operator", "alice")
        return Reader("participant", participant, "active")

    return reader
