"""Step 9, by signature: each decision is the word of the operator whom it names, over what it decided.

The keys come from the registers of operators. The coordinator signs these, so they could be forged, but not in silence:
each names the digest of the one before, the event log names each, and operators hold the register that they were in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compliance.counting import counted
from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import EvidenceError
from compliance.crypto.keys import VerifyingKey
from compliance.decisions import (
    DecisionError,
    DecisionFault,
    OperatorKeys,
    SignedDecision,
    cycle_act,
    is_fresh,
    operator_keys,
    require_other_eyes,
    valid_decision,
)
from compliance.event_log import LoggedEvent
from compliance.export.record import CycleRecord, Proposal
from compliance.statements import OperatorRegister
from compliance.trust import Anchor, Signers
from compliance.verifier.findings import Finding, RefutedError, instant
from compliance.verifier.log import CLOCK_SLACK

PUBLISHED = "operators.published"
OPERATORS_MEMBER = "operators"
"""The member of a cycle's opening that names the digest of the register of operators in force."""
UNSIGNED = "decisions unsigned: the cycle is of a release that had no signatures of operators"


def check_signatures(
    record: CycleRecord, anchor: Anchor, anchor_keys: Mapping[str, VerifyingKey], members: Signers
) -> str:
    """Check each proposal and decision under the keys that its operator had when the log tells of it.

    Return how many were signed. A record of a release before, which has no register, says so.
    """
    if not record.operators:
        _require_none_signed(record)
        return UNSIGNED
    registers = _registers(record, anchor, anchor_keys)
    for version, (_, operators) in registers.items():
        for kid in (kid for own in operators.values() for kid in own):
            if kid in anchor_keys or members.owner(kid) is not None:
                raise RefutedError(Finding.DECISION_REFUSED, f"register {version}: {kid} is a member's key")
    proposals = {proposal.id: proposal for proposal in record.proposals}
    made: dict[str, SignedDecision] = {}
    answered: dict[str, SignedDecision] = {}
    keys = _in_force_at_opening(record, registers)
    for event in record.events:
        if event.type == PUBLISHED:
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
    return f"{counted(len(made) + len(answered), 'decision')} signed by their operators"


def unproven_registers(record: CycleRecord) -> Iterator[str]:
    """Say what of the registers of operators rests on the coordinator's word alone."""
    if not record.operators:
        return
    first = canonical.decode(record.operators[0].payload_bytes(), OperatorRegister)
    digest = canonical.digest(record.operators[0].payload_bytes())
    if first.version == 1:
        yield (
            f"registers of operators, from the first one (sha256 {digest}) on: each names the one before; that"
            " operators decided on each change, the log says, and no signature here"
        )
    else:
        yield f"the registers of operators before version {first.version} (sha256 {digest}) aren't in the archive"


def _require_none_signed(record: CycleRecord) -> None:
    """Check that a record without registers is of a cycle that opened before there were any, as its log tells."""
    if any(proposal.proposed is not None or proposal.answered is not None for proposal in record.proposals):
        raise RefutedError(Finding.DECISION_REFUSED, "signed proposals, and no register of operators")
    for event in record.events:
        if event.type == PUBLISHED and event.data.get("version") == 1:
            return  # From here on operators sign; the cycle opened before.
        own = event.cycle == record.cycle
        if event.type == PUBLISHED or (own and ("signed" in event.data or OPERATORS_MEMBER in event.data)):
            detail = f"event {event.id}: operators signed by then, and the record is of the format of before"
            raise RefutedError(Finding.FORMAT_VIOLATION, detail)


def _registers(
    record: CycleRecord, anchor: Anchor, anchor_keys: Mapping[str, VerifyingKey]
) -> dict[int, tuple[str, OperatorKeys]]:
    """Return digest and keys of each register by its version."""
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
        follows = register.version == max(known) + 1 and register.supersedes == previous if known else True
        if not follows or (register.supersedes is None) is not (register.version == 1):
            raise RefutedError(Finding.DECISION_REFUSED, f"{where}: doesn't follow the register before")
        previous = canonical.digest(envelope.payload_bytes())
        known[register.version] = previous, keys
    return known


def _in_force_at_opening(record: CycleRecord, registers: dict[int, tuple[str, OperatorKeys]]) -> OperatorKeys:
    """Return the keys of the register in force when the cycle opened; only later ones are left in `registers`.

    The event of the opening names its digest, unless it is of a release before.
    """
    published = [event.data.get("version") for event in record.events if event.type == PUBLISHED]
    before = [version for version in registers if version not in published]
    if not before:
        raise RefutedError(Finding.DECISION_REFUSED, "no register of operators from before the cycle opened")
    versions = {version: registers.pop(version) for version in before}
    digest, keys = versions[max(versions)]
    if any(version < max(versions) for version in registers):
        raise RefutedError(Finding.DECISION_REFUSED, "a register was published after one that follows it")
    said = record.events[0].data.get(OPERATORS_MEMBER)
    if said not in (None, digest):
        raise RefutedError(Finding.DECISION_REFUSED, f"opened under the register of operators {said}, not {digest}")
    return keys


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
    _require_fresh(proposal, signed, proposal.made_at)
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
    maker = made[proposal.id]
    if maker.kid not in keys.get(proposal.made_by, {}):
        detail = f"proposal {proposal.id}: {proposal.made_by}, who made it, operated no more when it was decided"
        raise RefutedError(Finding.DECISION_REFUSED, detail)
    require_other_eyes(maker, signed)
    _require_reason(proposal, signed, proposal.decision_reason)
    _require_fresh(proposal, signed, proposal.decided_at)
    return signed


def _require_fresh(proposal: Proposal, signed: SignedDecision, at: str | None) -> None:
    if at is None or not is_fresh(signed.document, instant(at, proposal.id), slack=CLOCK_SLACK):
        detail = f"proposal {proposal.id}: {signed.document.operator} signed at {signed.document.at}, and it is of {at}"
        raise RefutedError(Finding.DECISION_REFUSED, detail)


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
