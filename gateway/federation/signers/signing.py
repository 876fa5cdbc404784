"""Signing from an event loop: a slow signer is waited for on a thread, a quick one answers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import Signer
from compliance.statements import Document

T = TypeVar("T")


async def signing(work: Callable[[], T], *signers: Signer) -> T:
    """Do what signs with these signers, and let the event loop go on meanwhile if one of them is slow.

    Not inside a database transaction, nor while holding a lock: others would wait for the signature all the same.
    """
    return await asyncio.to_thread(work) if any(signer.slow for signer in signers) else work()


async def sign_document(document: Document, *signers: Signer, payload_type: str | None = None) -> Envelope:
    """Sign a document in its canonical form."""
    return await signing(lambda: dsse.sign(document, *signers, payload_type=payload_type), *signers)
