"""The evidence for one pair in one cycle as a file: what one or both banks attested, and whose keys those are. Pure.

A bank shows it to whom it likes, and shows nothing of its other pairs. Who has the trust anchor checks it offline.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from compliance.crypto.dsse import Envelope, EvidenceError, EvidenceReason
from compliance.crypto.keys import VerifyingKey
from compliance.cycle.positions import ProvenStatement, verify_proven
from compliance.statements import Attestation, Document, PositionStatement, TrustList
from compliance.trust import Anchor, read_trust_list

FORMAT: Final = "concordat-position/1"
FILE_BYTES_MAX = 64 * 1024 * 1024
"""Nearly all of it is the trust list."""


class PositionEvidence(Document, frozen=True, kw_only=True):
    """A bank's statement under its attestation, beside the trust list that the coordinator signed.

    `counterparty` is the same statement under the attestation of the other bank, if it is at hand.
    """

    format: Literal["concordat-position/1"]
    proven: ProvenStatement
    counterparty: ProvenStatement | None = None
    trust_list: Envelope


class VerifiedPosition(msgspec.Struct, frozen=True):
    """What a bank attested of a pair, once it is verified."""

    attestation: Attestation
    statement: PositionStatement
    trust_list: int
    """The version of the list that names its bank's keys."""
    both: bool
    """Whether the other bank attested the same."""


def verify_position(evidence: PositionEvidence, anchor: Anchor) -> VerifiedPosition:
    """Verify a statement from the trust anchor alone. Raises EvidenceError, AnchorError.

    Keys that the list says are retired count: the statement may be older than the list. One that is revoked doesn't.
    """
    trust_list = read_trust_list(evidence.trust_list, anchor, anchor.verifying_keys())

    attestation, statement = verify_proven(evidence.proven, _keys(evidence.proven, trust_list, anchor))
    if (other := evidence.counterparty) is not None:
        theirs, _ = verify_proven(other, _keys(other, trust_list, anchor))
        if {attestation.participant, theirs.participant} != set(statement.pair):
            raise EvidenceError(EvidenceReason.NOT_ATTESTED, "both attestations are of one bank of the pair")
        if other.statement != evidence.proven.statement:
            raise EvidenceError(EvidenceReason.NOT_ATTESTED, "the two banks attested different statements")
    return VerifiedPosition(attestation, statement, trust_list.version, evidence.counterparty is not None)


def _keys(proven: ProvenStatement, trust_list: TrustList, anchor: Anchor) -> dict[str, VerifyingKey]:
    """Return the keys that count of the bank which a statement says is its signer."""
    bank = signer_of(proven.attestation)
    return {
        key.kid: VerifyingKey(key.x).within(anchor.scheme)
        for member in trust_list.members
        if (member.bic, member.kind) == (bank, "participant")
        for key in member.keys
        if key.use == "sign" and key.status != "revoked"
    }


def signer_of(envelope: Envelope) -> str:
    """Return which bank an attestation says it is of; whether that is true is for its signature to say."""
    try:
        return msgspec.json.decode(envelope.payload_bytes(), type=Attestation).participant
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise EvidenceError(EvidenceReason.SCHEMA_VIOLATION, f"attestation: {error}") from error
