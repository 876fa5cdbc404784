"""The evidence for one pair in one cycle as a file: what a bank attested of it, and whose keys those are. Pure.

A bank shows it to whom it likes, and shows nothing of its other pairs. Who has the trust anchor checks it offline.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from compliance.crypto.dsse import Envelope, EvidenceError, EvidenceReason
from compliance.crypto.keys import VerifyingKey
from compliance.cycle.positions import ProvenStatement, verify_proven
from compliance.statements import Attestation, Document, PositionStatement
from compliance.trust import Anchor, read_trust_list

FORMAT: Final = "concordat-position/1"
FILE_BYTES_MAX = 64 * 1024 * 1024
"""Nearly all of it is the trust list."""


class PositionEvidence(Document, frozen=True, kw_only=True):
    """A bank's statement under its attestation, beside the trust list that the coordinator signed."""

    format: Literal["concordat-position/1"]
    proven: ProvenStatement
    trust_list: Envelope


class VerifiedPosition(msgspec.Struct, frozen=True):
    """What a bank attested of a pair, once it is verified."""

    attestation: Attestation
    statement: PositionStatement
    trust_list: int
    """The version of the list that names its bank's keys."""


def verify_position(evidence: PositionEvidence, anchor: Anchor) -> VerifiedPosition:
    """Verify a statement from the trust anchor alone. Raises EvidenceError, AnchorError.

    Keys that the list says are retired count: the statement may be older than the list. One that is revoked doesn't.
    """
    trust_list = read_trust_list(evidence.trust_list, anchor, anchor.verifying_keys())
    bank = _signer(evidence.proven.attestation)
    keys = {
        key.kid: VerifyingKey(key.x).within(anchor.scheme)
        for member in trust_list.members
        if (member.bic, member.kind) == (bank, "participant")
        for key in member.keys
        if key.use == "sign" and key.status != "revoked"
    }
    attestation, statement = verify_proven(evidence.proven, keys)
    return VerifiedPosition(attestation, statement, trust_list.version)


def _signer(envelope: Envelope) -> str:
    """Return which bank an attestation says it is of; whether that is true is for its signature to say."""
    try:
        return msgspec.json.decode(envelope.payload_bytes(), type=Attestation).participant
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise EvidenceError(EvidenceReason.SCHEMA_VIOLATION, f"attestation: {error}") from error
