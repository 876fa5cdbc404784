"""DSSE v1 envelopes: a payload, its type, and signatures over both (secure-systems-lab/dsse, `protocol.md`).

A signature counts only when it is of a key that the verifier already knows, and each key counts once: "nothing
failed" is never enough.

The type of a payload is signed with it, and names the scheme that the document belongs to, as a parameter of the
media type: so a document of a test house is worth nothing in the real one, though the same keys signed it.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeVar

import msgspec
from msgspec import Struct

from compliance.crypto import canonical
from compliance.crypto.keys import Signer, VerifyingKey
from compliance.statements import PAYLOAD_TYPES, Document

D = TypeVar("D", bound=Document)

_SCHEME = ";scheme="
"""Begins the parameter of a payload's type that names the scheme."""


class Signature(Struct, frozen=True, forbid_unknown_fields=True):
    keyid: str
    sig: str


class Envelope(Struct, frozen=True, forbid_unknown_fields=True):
    """`payload` and each `sig` are standard base64."""

    payload: str
    payloadType: str  # noqa: N815 - the name is DSSE's
    signatures: tuple[Signature, ...]

    @property
    def document_type(self) -> str:
        """The type of the document, whatever scheme it is of; unverified."""
        return self.payloadType.partition(_SCHEME)[0]

    def payload_bytes(self) -> bytes:
        """Return the payload unverified. Raises EvidenceError."""
        try:
            return b64decode(self.payload, validate=True)
        except ValueError as error:  # not base64, or not even ASCII
            raise EvidenceError(EvidenceReason.PAYLOAD_MALFORMED, f"payload isn't base64: {error}") from error


class EvidenceReason(StrEnum):
    """Why evidence doesn't verify, in order of precedence."""

    TOO_MANY_SIGNATURES = "too_many_signatures"
    """A member's document carries exactly the signatures that it needs: one; a key change two."""
    WRONG_PAYLOAD_TYPE = "wrong_payload_type"
    WRONG_SCHEME = "wrong_scheme"
    """It was signed in another scheme."""
    PAYLOAD_MALFORMED = "payload_malformed"
    BAD_SIGNATURE = "bad_signature"
    UNKNOWN_KEY = "unknown_key"
    TOO_FEW_SIGNATURES = "too_few_signatures"
    SCHEMA_VIOLATION = "schema_violation"
    NOT_CANONICAL = "not_canonical"
    NOT_ATTESTED = "not_attested"
    """It isn't a leaf of the tree whose root was signed."""


class EvidenceError(Exception):
    """Evidence that doesn't verify. `reason` is stable; the message says what and where."""

    def __init__(self, reason: EvidenceReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding: what is signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def named_type(payload_type: str, scheme: str | None) -> str:
    """Return the type of a payload as a document of a scheme has it."""
    return payload_type if scheme is None else f"{payload_type}{_SCHEME}{scheme}"


def seal(payload: bytes, payload_type: str, *signers: Signer) -> Envelope:
    """Sign bytes as they are, as a document of the scheme that the first signer signs for."""
    payload_type = named_type(payload_type, signers[0].scheme)
    message = pae(payload_type, payload)
    return Envelope(
        payload=b64encode(payload).decode(),
        payloadType=payload_type,
        signatures=tuple(Signature(keyid=s.kid, sig=b64encode(s.sign(message)).decode()) for s in signers),
    )


def open_(envelope: Envelope, keys: Mapping[str, VerifyingKey], *, payload_type: str, threshold: int = 1) -> bytes:
    """Verify and return the payload bytes.

    `keys` are the keys that may sign, by key id. Raises EvidenceError unless at least `threshold` distinct ones
    of them signed; a signature that names a known key and doesn't verify is an error, an unknown one is ignored.
    A document that names a scheme must name the one that the key is known in. (Release 0.1 names none.)
    """
    if envelope.document_type != payload_type:
        raise EvidenceError(EvidenceReason.WRONG_PAYLOAD_TYPE, f"expected {payload_type}, found {envelope.payloadType}")
    payload = envelope.payload_bytes()
    message = pae(envelope.payloadType, payload)
    verified: set[str] = set()
    for signature in envelope.signatures:
        key = keys.get(signature.keyid)
        if key is None or key.kid in verified:
            continue
        if key.scheme is not None and envelope.payloadType not in (payload_type, named_type(payload_type, key.scheme)):
            raise EvidenceError(EvidenceReason.WRONG_SCHEME, f"{envelope.payloadType} isn't of {key.scheme}")
        try:
            raw = b64decode(signature.sig, validate=True)
        except ValueError as error:  # not base64, or not even ASCII
            raise EvidenceError(EvidenceReason.BAD_SIGNATURE, f"signature of {key.kid} isn't base64") from error
        if not key.verifies(raw, message):
            raise EvidenceError(EvidenceReason.BAD_SIGNATURE, f"signature of {key.kid} doesn't verify")
        verified.add(key.kid)
    if not verified:
        raise EvidenceError(EvidenceReason.UNKNOWN_KEY, "no signature by a known key")
    if len(verified) < threshold:
        raise EvidenceError(EvidenceReason.TOO_FEW_SIGNATURES, f"{len(verified)} of {threshold} signatures")
    return payload


def require_nothing_free(envelope: Envelope, *, signatures: int = 1) -> None:
    """Check that there is one way only to write the envelope of its document and signers. Raises EvidenceError.

    What no signature covers is fixed: there is no signature more than there must be, and no base64 but the one form
    that an encoder gives (a decoder ignores the spare bits of the last character).
    """
    if len(envelope.signatures) > signatures:
        detail = f"{len(envelope.signatures)} signatures instead of {signatures}"
        raise EvidenceError(EvidenceReason.TOO_MANY_SIGNATURES, detail)
    if not _as_encoded(envelope.payload):
        raise EvidenceError(EvidenceReason.PAYLOAD_MALFORMED, "payload isn't base64 as an encoder writes it")
    if not all(_as_encoded(signature.sig) for signature in envelope.signatures):
        raise EvidenceError(EvidenceReason.BAD_SIGNATURE, "signature isn't base64 as an encoder writes it")


def _as_encoded(text: str) -> bool:
    last = text[-4:]  # All before it is free to nobody: four characters stand for three whole bytes.
    try:
        return b64encode(b64decode(last, validate=True)).decode() == last
    except ValueError:
        return False


def sign(document: Document, *signers: Signer, payload_type: str | None = None) -> Envelope:
    """Sign a document in its canonical form."""
    return seal(canonical.encode(document), payload_type or PAYLOAD_TYPES[type(document)], *signers)


def verify(
    envelope: Envelope,
    kind: type[D],
    keys: Mapping[str, VerifyingKey],
    *,
    payload_type: str | None = None,
    threshold: int = 1,
    decode: Callable[[bytes], D] | None = None,
) -> D:
    """Verify, then parse, then compare with the canonical form; return the document. Raises EvidenceError.

    For what is submitted there is `verify_submitted`. `decode` does what `canonical.decode` does of this kind.
    """
    payload = open_(envelope, keys, payload_type=payload_type or PAYLOAD_TYPES[kind], threshold=threshold)
    try:
        return canonical.decode(payload, kind) if decode is None else decode(payload)
    except canonical.NotCanonicalError as error:
        raise EvidenceError(EvidenceReason.NOT_CANONICAL, str(error)) from error
    except msgspec.MsgspecError as error:
        raise EvidenceError(EvidenceReason.SCHEMA_VIOLATION, str(error)) from error


def verify_submitted(
    envelope: Envelope,
    kind: type[D],
    keys: Mapping[str, VerifyingKey],
    *,
    payload_type: str | None = None,
    decode: Callable[[bytes], D] | None = None,
) -> D:
    """Verify what a member submits, all of it: nothing that nobody verified gets into a journal or an export.

    The envelope carries exactly one signature, by one of the `keys`. Raises EvidenceError.
    """
    require_nothing_free(envelope)
    return verify(envelope, kind, keys, payload_type=payload_type, decode=decode)
