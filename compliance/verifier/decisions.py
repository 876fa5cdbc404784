"""Step 9, by signature: each decision is the word of the operator whom it names, over what it decided.

The keys come from the registers of operators. The coordinator signs these, so they could be forged, but not in silence:
each names the digest of the one before, the event log names each, and operators hold the register that they were in.
"""

from __future__ import annotations

from collections.abc import Mapping

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import EvidenceError
from compliance.crypto.keys import VerifyingKey
from compliance.decisions import (
    DecisionError,
    DecisionFault,
    OperatorKeys,
    SignedDecision,
    cycle_act,
    operator_keys,
    require_other_eyes,
    valid_decision,
)
from compliance.event_log import LoggedEvent
from compliance.export.record import CycleRecord, Proposal
from compliance.statements import OperatorRegister
from compliance.trust import Anchor
from compliance.verifier.findings import Finding, RefutedError

UNSIGNED = "decisions unsigned: the cycle is of a release that had no signatures of operators"


def check_signatures(record: CycleRecord, anchor: Anchor, anchor_keys: Mapping[str, VerifyingKey]) -> str:
    """Check each proposal and decision under the keys that its operator had when the log tells of it.

    Return how many were signed. A record of a release before, which has no register, says so.
    """
    if not record.operators:
        if any(proposal.proposed is not None for proposal in record.proposals):
            raise RefutedError(Finding.DECISION_REFUSED, "signed proposals, and no register of operators")
        return UNSIGNED
    registers = _registers(record, anchor, anchor_keys)
    proposals = {proposal.id: proposal for proposal in record.proposals}
    made: dict[str, SignedDecision] = {}
    answered: dict[str, SignedDecision] = {}
    keys = registers.pop(min(registers))[1]
    for event in record.events:
        if event.type == "operators.published":
            keys = _published(registers, event)
        elif event.cycle == record.cycle and event.type in ("proposal.made", "proposal.decided"):
            proposal = proposals.get(str(event.data.get("proposal")))
            if proposal is None:
                raise RefutedError(Finding.DECISION_REFUSED, f"event {event.id}: a proposal that the record leaves out")
            try:
                if event.type == "proposal.made":
                    decision = made[proposal.id] = _made(record, proposal, keys, anchor.bic)
                else:
                    decision = answered[proposal.id] = _answered(record, proposal, made, keys, anchor.bic)
            except DecisionError as error:
                finding = Finding.DECISION_REFUSED
                if error.fault is DecisionFault.MAKER_IS_CHECKER:
                    finding = Finding.MAKER_IS_CHECKER
                raise RefutedError(finding, f"proposal {proposal.id}: {error.fault}: {error}") from error
            if event.data.get("signed") != decision.sha256:
                detail = f"event {event.id} is of the decision {event.data.get('signed')}, not {decision.sha256}"
                raise RefutedError(Finding.DECISION_REFUSED, detail)
    if registers:
        raise RefutedError(Finding.DECISION_REFUSED, f"the log knows no register of operators {min(registers)}")
    _require_all(record, made, answered)
    return f"{len(made) + len(answered)} decisions signed by their operators"


def _registers(
    record: CycleRecord, anchor: Anchor, anchor_keys: Mapping[str, VerifyingKey]
) -> dict[int, tuple[str, OperatorKeys]]:
    """Return digest and keys of each register by its version; the first was in force before the cycle opened."""
    known: dict[int, tuple[str, OperatorKeys]] = {}
    previous: str | None = None
    for number, envelope in enumerate(record.operators, 1):
        where = f"operators.jsonl line {number}"
        try:
            register = dsse.verify_submitted(envelope, OperatorRegister, anchor_keys)
            keys = operator_keys((register,))
        except (EvidenceError, ValueError) as error:
            raise RefutedError(Finding.DECISION_REFUSED, f"{where}: {error}") from error
        if len({(entry.name, entry.kid) for entry in register.operators}) != len(register.operators):
            raise RefutedError(Finding.DECISION_REFUSED, f"{where}: a key is listed twice")
        if register.coordinator != anchor.bic:
            raise RefutedError(Finding.DECISION_REFUSED, f"{where}: the register of {register.coordinator}")
        if known and (register.version != max(known) + 1 or register.supersedes != previous):
            raise RefutedError(Finding.DECISION_REFUSED, f"{where}: doesn't follow the register before")
        previous = canonical.digest(envelope.payload_bytes())
        known[register.version] = previous, keys
    return known


def _published(registers: dict[int, tuple[str, OperatorKeys]], event: LoggedEvent) -> OperatorKeys:
    """Return the keys of the register that an event publishes."""
    version = event.data.get("version")
    digest, keys = registers.pop(version, (None, {})) if isinstance(version, int) else (None, {})
    if digest is None or digest != event.data.get("sha256"):
        detail = f"event {event.id}: register {version} of operators isn't the one that the record holds"
        raise RefutedError(Finding.DECISION_REFUSED, detail)
    return keys


def _made(record: CycleRecord, proposal: Proposal, keys: OperatorKeys, coordinator: str) -> SignedDecision:
    if proposal.proposed is None:
        raise RefutedError(Finding.DECISION_REFUSED, f"proposal {proposal.id} is signed by nobody")
    act = cycle_act(proposal.action, record.cycle, result=proposal.subject_sha256, participants=proposal.participants)
    signed = valid_decision(
        proposal.proposed, keys, act, operator=proposal.made_by, action="propose", coordinator=coordinator
    )
    _require_reason(proposal, signed, proposal.reason)
    return signed


def _answered(
    record: CycleRecord,
    proposal: Proposal,
    made: Mapping[str, SignedDecision],
    keys: OperatorKeys,
    coordinator: str,
) -> SignedDecision:
    if proposal.answered is None or proposal.decided_by is None or proposal.decision is None:
        raise RefutedError(Finding.DECISION_REFUSED, f"the decision on proposal {proposal.id} is signed by nobody")
    if proposal.id not in made:
        raise RefutedError(Finding.DECISION_REFUSED, f"proposal {proposal.id} was decided before it was made")
    act = cycle_act(proposal.action, record.cycle, result=proposal.subject_sha256, participants=proposal.participants)
    signed = valid_decision(
        proposal.answered,
        keys,
        act,
        operator=proposal.decided_by,
        action=proposal.decision,
        coordinator=coordinator,
    )
    require_other_eyes(made[proposal.id], signed)
    _require_reason(proposal, signed, proposal.decision_reason)
    return signed


def _require_reason(proposal: Proposal, signed: SignedDecision, reason: str | None) -> None:
    if signed.document.reason != reason:
        detail = f"proposal {proposal.id}: {signed.document.operator} gave another reason"
        raise RefutedError(Finding.DECISION_REFUSED, detail)


def _require_all(
    record: CycleRecord, made: Mapping[str, SignedDecision], answered: Mapping[str, SignedDecision]
) -> None:
    """Check that the log tells of every proposal and decision, and that no signature stands for two."""
    for proposal in record.proposals:
        if proposal.id not in made or (proposal.decision is not None) != (proposal.id in answered):
            raise RefutedError(Finding.DECISION_REFUSED, f"the log doesn't tell of proposal {proposal.id} as it stands")
    digests = [signed.sha256 for signed in (*made.values(), *answered.values())]
    if len(set(digests)) != len(digests):
        raise RefutedError(Finding.DECISION_REFUSED, "one signature stands for two decisions")
