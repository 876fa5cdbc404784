"""The secret that two banks make ids with: agreed once a day, by X25519 under both banks' signatures (decision 24).

Kept in memory alone. Whoever has forgotten one says so, and another is agreed.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from msgspec import Struct
from msgspec.structs import replace

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.crypto.keys import Signer, VerifyingKey, b64url, unb64url
from gateway.federation.messages.reconciliation import SHARE_TYPE, ReconciliationShare
from gateway.federation.signers.signing import sign_document

PERIOD_SECONDS = 86_400.0
AGE_SECONDS_MAX = 300
"""Of a half that is answered: what was recorded and is shown again isn't."""
KEPT_MAX = 4096

Keys = Mapping[str, VerifyingKey]


class ShareRefused(Exception):  # noqa: N818 - a refusal is an answer
    """The other bank's half of a secret isn't taken."""


class Agreement(Struct, frozen=True):
    """A secret of a pair, and its name: the digest of the half that was answered."""

    name: str
    secret: bytes
    until: float
    """By this process's clock."""
    answer: Envelope | None = None
    """This bank's half, where the other one asked."""


class Half(Struct, frozen=True):
    """This bank's half of a secret that isn't agreed yet."""

    private: X25519PrivateKey
    envelope: Envelope


class Secrets:
    """The secrets that a bank has agreed, the last one with each other bank by either side."""

    def __init__(self, bank: str, signer: Signer) -> None:
        self._bank = bank
        self._signer = signer
        self._kept: OrderedDict[tuple[str, str], Agreement] = OrderedDict()
        """By counterparty and name: those that it asked for as well."""
        self._asked: dict[str, Agreement] = {}

    def asked(self, counterparty: str) -> Agreement | None:
        """Return the secret that this bank asked another for, while it is good."""
        agreement = self._asked.get(counterparty)
        return agreement if agreement is not None and agreement.until > time.monotonic() else None

    def named(self, counterparty: str, name: str) -> Agreement | None:
        """Return the secret of this name that another bank asked for, while it is good."""
        agreement = self._kept.get((counterparty, name))
        return agreement if agreement is not None and agreement.until > time.monotonic() else None

    def forget(self, counterparty: str) -> None:
        """Agree on a new one the next time."""
        self._asked.pop(counterparty, None)

    async def half(self, counterparty: str, *, answers: str | None = None) -> Half:
        """Make and sign this bank's half of a new secret."""
        private = X25519PrivateKey.generate()
        share = ReconciliationShare(
            sender=self._bank,
            receiver=counterparty,
            made_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            key=b64url(private.public_key().public_bytes_raw()),
            answers=answers,
        )
        return Half(private, await sign_document(share, self._signer, payload_type=SHARE_TYPE))

    async def answer(self, counterparty: str, envelope: Envelope, keys: Keys) -> Envelope:
        """Agree on the secret that another bank asks for, and return this bank's half. Raises ShareRefused."""
        theirs = self._read(envelope, counterparty, keys)
        name = canonical.digest(envelope.payload_bytes())
        if theirs.answers is not None:
            raise ShareRefused("it is an answer")
        if (known := self._kept.get((counterparty, name))) is not None and known.answer is not None:
            return known.answer  # The same half again: its answer was lost, or somebody repeats it.
        ours = await self.half(counterparty, answers=name)
        agreement = self._agree(name, ours, theirs, envelope, ours.envelope)
        self._kept[counterparty, name] = replace(agreement, answer=ours.envelope)
        while len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return ours.envelope

    def take(self, counterparty: str, ours: Half, envelope: Envelope, keys: Keys) -> Agreement:
        """Agree on the secret that this bank asked for, by the other's half. Raises ShareRefused."""
        theirs = self._read(envelope, counterparty, keys)
        name = canonical.digest(ours.envelope.payload_bytes())
        if theirs.answers != name:
            raise ShareRefused("it answers another half than ours")
        self._asked[counterparty] = self._agree(name, ours, theirs, ours.envelope, envelope)
        return self._asked[counterparty]

    def _read(self, envelope: Envelope, counterparty: str, keys: Keys) -> ReconciliationShare:
        try:
            share = dsse.verify_submitted(envelope, ReconciliationShare, keys, payload_type=SHARE_TYPE)
        except EvidenceError as error:
            raise ShareRefused(str(error)) from error
        if (share.sender, share.receiver) != (counterparty, self._bank):
            raise ShareRefused("it is another pair's")
        age = datetime.now(UTC) - datetime.fromisoformat(share.made_at)
        if abs(age) > timedelta(seconds=AGE_SECONDS_MAX):
            raise ShareRefused(f"it was made at {share.made_at}")
        return share

    @staticmethod
    def _agree(name: str, ours: Half, theirs: ReconciliationShare, question: Envelope, answer: Envelope) -> Agreement:
        """Return the BLAKE2b of what X25519 (RFC 7748) makes of both halves and of all that was signed about them."""
        try:
            shared = ours.private.exchange(X25519PublicKey.from_public_bytes(unb64url(theirs.key)))
        except ValueError as error:  # of small order, or no 32 bytes
            raise ShareRefused("it is no key") from error
        secret = blake2b(question.payload_bytes() + answer.payload_bytes(), key=shared, digest_size=32).digest()
        return Agreement(name, secret, time.monotonic() + PERIOD_SECONDS)
