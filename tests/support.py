"""What tests of several kinds share."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

from litestar import Litestar
from msgspec.structs import replace

from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.cycle.audience import Reader

DATA = Path(os.environ.get("CONCORDAT_DATA") or Path(__file__).parents[2] / "shared" / "data")
"""The public data sets, which aren't part of the project. What needs one that isn't there is skipped and says so."""

NewDatabase = Callable[..., Awaitable[str]]
"""The fixture `new_database`: the name of a package, or none, to the URL of a fresh database."""
Live = Callable[[Litestar | Callable[[str], Litestar]], str]
"""The fixture `live`: an application, or what makes one for a URL, to the URL where it is served."""


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def uuid7() -> str:
    """Return a new UUIDv7 (RFC 9562): ids in the order of time keep a B-tree's insertions together."""
    milliseconds = time.time_ns() // 1_000_000
    tail = random.getrandbits(74)
    value = (milliseconds << 80) | (7 << 76) | ((tail >> 62) << 64) | (2 << 62) | (tail & (2**62 - 1))
    return str(UUID(int=value))


def with_junk(envelope: Envelope, *, second: SigningKey) -> list[tuple[Envelope, str]]:
    """Return an envelope with what no honest signer puts there, and the reason that it is refused for."""
    signatures = envelope.signatures
    genuine = signatures[-1]
    again = dsse.seal(envelope.payload_bytes(), envelope.payloadType, second).signatures[0]
    stranger = dsse.seal(envelope.payload_bytes(), envelope.payloadType, SigningKey.generate()).signatures[0]
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
