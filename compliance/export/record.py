"""The audit export of a cycle: all that was signed about it, in one archive that the coordinator signs.

The archive (see `compliance.export.archive`) holds a fixed set of files, whatever the cycle:

    cycle.json           cycle id, value date, state, digest of the rulebook
    rulebook.json        the rulebook, canonical: its SHA-256 is what the result names
    trust-lists.jsonl    signed trust lists in force during the cycle, oldest first
    events.jsonl         the coordinator's event log from the cycle's opening to its last event, without a gap
    cuts.jsonl           each receiver's signed CycleCut
    attestations.jsonl   the signed Attestations in the order in which they came, and leaves that no position gives
    positions.jsonl      the attested positions, superseded revisions included, and which attestations hold them
    equivocations.jsonl  two signed documents, or two attested statements, of one bank where there can be one
    screenings.jsonl     the ScreeningStatements that attestations name
    certificates.json    for each currency, what proves how much at most could settle within the limits
    limits.json          the net debit caps, prefunding and bilateral limits that the netting kept
    checks.json          the named checks with their verdicts
    result.jsonl         the signed NettingResult, if the cycle came so far
    superseded.jsonl     the results that a default made void, each with all that rested on it
    operators.jsonl      signed registers of operators, from the first one to the last of the cycle
    proposals.json       what operators proposed, and who decided, each under the operator's signature
    instructions.jsonl   signed SettlementInstructions
    receipts.jsonl       the banks' signed receipts for them
    settlements.jsonl    what was asked of the settlement agent and what it answered, both signed
    finality.jsonl       the signed SettlementFinality, if the cycle is final
    participants.json    who took part, when its cut and its last attestation came, and the screening of its that counts
    settled.jsonl        statements of earlier cycles, by both banks, of pairs that have nothing new in this one
    limit-events.jsonl   the last change of each limit before the cycle's opening, from the event log
    manifest.json        name, SHA-256 and size of each file above
    manifest.dsse.json   the manifest under the coordinator's signature

A `.jsonl` file holds one canonical JSON document per line, in ascending order of the lines unless said otherwise.
Positions stand in the order of currency, pair and revision, which is the order of an attestation's leaves: those of
one are the digests of the positions that name it, with what `attestations.jsonl` holds of it at its places in between.
A pair that cuts name had nothing new if both its banks signed that they had stated all, and none of that is missing;
else `settled.jsonl` shows it.

In the formats before each bank signed each statement by itself: `statements.jsonl` holds PositionStatements instead of
positions and attestations, and `screenings.jsonl` signed ones. The third format is written for cycles that were stated
so. The second one has no `operators.jsonl`, `settlements.jsonl`, `participants.json`, `settled.jsonl` and
`limit-events.jsonl` either: without them a verifier proves less, and says so. The same record and key give the same
bytes: `compliance.export.files` writes and reads them, `compliance.verifier.verify` believes none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from compliance.crypto import canonical
from compliance.crypto.dsse import Envelope
from compliance.cycle.approval import Action
from compliance.cycle.certificate import Certificate
from compliance.cycle.checks import Check
from compliance.cycle.contests import ContestedLane
from compliance.cycle.limits import Limits
from compliance.cycle.positions import Position, ProvenStatement
from compliance.event_log import LoggedEvent
from compliance.statements import (
    EDITIONS_MAX,
    Bic,
    Count,
    CycleId,
    Date,
    Document,
    Reason,
    ScreeningStatement,
    Sha256,
    Timestamp,
)

FORMAT_2, FORMAT_3, FORMAT = (f"concordat-audit-export/{number}" for number in (2, 3, 4))
"""The first is of cycles that opened before there was a register of operators: what operators decided and what the
settlement agent answered wasn't signed then. In the second, banks signed each statement by itself.
"""
MANIFEST, MANIFEST_SIGNED = "manifest.json", "manifest.dsse.json"
OPERATORS_FILE, SETTLEMENTS_FILE, TRUST_LISTS_FILE = "operators.jsonl", "settlements.jsonl", "trust-lists.jsonl"
ATTESTATIONS_FILE, POSITIONS_FILE = "attestations.jsonl", "positions.jsonl"

FILES_2 = (
    "certificates.json",
    "checks.json",
    "cuts.jsonl",
    "cycle.json",
    "equivocations.jsonl",
    "events.jsonl",
    "finality.jsonl",
    "instructions.jsonl",
    "limits.json",
    "proposals.json",
    "receipts.jsonl",
    "result.jsonl",
    "rulebook.json",
    "screenings.jsonl",
    "statements.jsonl",
    "superseded.jsonl",
    TRUST_LISTS_FILE,
)
_SINCE_3 = ("limit-events.jsonl", OPERATORS_FILE, "participants.json", "settled.jsonl", SETTLEMENTS_FILE)
FILES_3 = tuple(sorted((*FILES_2, *_SINCE_3)))
FILES = tuple(sorted((*(set(FILES_3) - {"statements.jsonl"}), ATTESTATIONS_FILE, POSITIONS_FILE)))
"""What the manifest names; every export holds each of them, if need be empty."""

FORMATS: Mapping[str, tuple[str, ...]] = {FORMAT_2: FILES_2, FORMAT_3: FILES_3, FORMAT: FILES}
"""The formats that are read, and the files of each."""


class Proposal(Document, frozen=True, kw_only=True):
    """What one operator proposed on the cycle and, once somebody else decided, the decision.

    `subject_sha256` is the digest of the NettingResult that the maker looked at, `participants` are those that an
    unwinding leaves out. `proposed` and `answered` are the two `OperatorDecision`s, as they were signed.
    """

    id: str
    action: Action
    reason: Reason
    participants: tuple[Bic, ...] = ()
    made_by: str
    made_at: Timestamp
    subject_sha256: Sha256 | None = None
    decision: Literal["confirm", "reject"] | None = None
    decided_by: str | None = None
    decided_at: Timestamp | None = None
    decision_reason: Reason | None = None
    proposed: Envelope | None = None
    answered: Envelope | None = None


class UnopenedLeaf(Document, frozen=True, kw_only=True):
    """A leaf of an attestation's tree of which no position is in the archive: the coordinator took none in."""

    index: Count
    sha256: Sha256


class SignedAttestation(Document, frozen=True, kw_only=True):
    """What one bank signed at once. `number` counts the attestations of a cycle from 1, in the order of their coming.

    `unopened` are the leaves that `positions.jsonl` doesn't give, by their places; `contested` are the lanes whose
    digest the attestation names.
    """

    number: Annotated[int, Meta(ge=1)]
    envelope: Envelope
    unopened: tuple[UnopenedLeaf, ...] = ()
    contested: tuple[ContestedLane, ...] = ()


class AttestedPosition(Document, frozen=True, kw_only=True):
    """A position and the numbers of the attestations that it is a leaf of, in ascending order."""

    position: Position
    attested: Annotated[tuple[int, ...], Meta(min_length=1)]

    @property
    def place(self) -> tuple[Any, ...]:
        """Where it stands among others: by currency, pair and revision, then by what it says."""
        return msgspec.structs.astuple(self.position)


class Equivocation(Document, frozen=True, kw_only=True):
    """Two documents that one bank signed where there can be one: proof against it, by itself.

    They are two cuts, or two statements that were signed alone (`first` and `second`), or two statements under
    attestations (`proven`).
    """

    participant: Bic
    first: Envelope | None = None
    second: Envelope | None = None
    proven: tuple[ProvenStatement, ProvenStatement] | None = None

    @property
    def digests(self) -> tuple[str, str]:
        """The SHA-256 of both, of their canonical bytes, unverified. Raises EvidenceError."""
        if self.proven is not None:
            first, second = (proven.statement.encode(errors="replace") for proven in self.proven)
        else:
            first, second = (b"" if of is None else of.payload_bytes() for of in (self.first, self.second))
        return canonical.digest(first), canonical.digest(second)


class SettledStatement(Document, frozen=True, kw_only=True):
    """What a bank stated in an earlier cycle: signed alone, as it was before there were attestations, or under one."""

    alone: Envelope | None = None
    proven: ProvenStatement | None = None


class Superseded(Document, frozen=True, kw_only=True):
    """A result that was netted again after a default, with all that rested on it. None of it was settled."""

    result: Envelope
    limits: Limits
    certificates: tuple[Certificate, ...]
    checks: tuple[Check, ...]
    instructions: tuple[Envelope, ...]
    receipts: tuple[Envelope, ...]


class Attendance(Document, frozen=True, kw_only=True):
    """When a participant of a cycle delivered its cut and the last of its statements, and which screening counts.

    A bank may screen again while the cycle attests: `screening` is the digest of the statement that it handed in last.
    """

    participant: Bic
    cut_at: Timestamp | None = None
    attested_at: Timestamp | None = None
    screening: Sha256 | None = None


class SignedSettlement(Document, frozen=True, kw_only=True):
    """One request to the settlement agent (pacs.029) and, unless it couldn't be read, its answer (pacs.002)."""

    attempt: Annotated[int, Meta(ge=1)]
    edition: Annotated[int, Meta(ge=1, le=EDITIONS_MAX)] = 1
    request: Envelope
    answer: Envelope | None = None


class CycleRecord(Struct, frozen=True, kw_only=True):
    """All that is to be said about a cycle. The order within the sequences doesn't matter.

    `rulebook` is the canonical JSON of the rulebook. `events` is a stretch of the log without a gap, so it holds
    what happened in between to other cycles and members too. `trust_lists` holds every version in force from the
    cycle's opening to its end. `operators` holds each version up to then, so that each names the one before; it is
    empty for cycles of before there was a register. `statements` and `signed_screenings` are of the formats before.
    """

    cycle: CycleId
    value_date: Date
    state: str
    rulebook: bytes
    trust_lists: tuple[Envelope, ...]
    events: tuple[LoggedEvent, ...]
    cuts: Sequence[Envelope] = ()
    attestations: Sequence[SignedAttestation] = ()
    positions: Sequence[AttestedPosition] = ()
    screenings: Sequence[ScreeningStatement] = ()
    statements: Sequence[Envelope] = ()
    signed_screenings: Sequence[Envelope] = ()
    equivocations: tuple[Equivocation, ...] = ()
    limits: Limits = Limits()
    certificates: tuple[Certificate, ...] = ()
    checks: tuple[Check, ...] = ()
    result: Envelope | None = None
    superseded: tuple[Superseded, ...] = ()
    operators: tuple[Envelope, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    instructions: Sequence[Envelope] = ()
    receipts: Sequence[Envelope] = ()
    finality: Envelope | None = None
    format: str = FORMAT
    participants: tuple[Attendance, ...] = ()
    settled: Sequence[SettledStatement] = ()
    limit_events: tuple[LoggedEvent, ...] = ()
    settlements: tuple[SignedSettlement, ...] = ()
