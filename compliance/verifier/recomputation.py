"""A cycle checked from its documents alone: what follows from what was signed, and whether that is what was done.

Steps 7 to 10 of `compliance.verifier.verify`. Each raises `RefutedError` at the first thing that is wrong.
"""

from __future__ import annotations

from typing import Any

import msgspec

from compliance.counting import counted
from compliance.crypto import canonical
from compliance.cycle.approval import TRIGGERS, Action, four_eyes_causes, needed_decision
from compliance.cycle.carry_over import BY_NETTING
from compliance.cycle.certificate import Certificate
from compliance.cycle.checks import worst
from compliance.cycle.commitment import committed_root
from compliance.cycle.liquidity import check_certificate
from compliance.cycle.positions import Position
from compliance.cycle.result import (
    InconsistentInputError,
    instructions,
    net_cycle,
    settling_minor,
)
from compliance.cycle.states import TRIGGER_MEMBER, State
from compliance.export.record import CycleRecord, Proposal
from compliance.person import same_person
from compliance.trust import Signers
from compliance.verifier.documents import Documents
from compliance.verifier.findings import Finding, RefutedError
from compliance.verifier.matching import Agreed
from compliance.verifier.rules import Rules
from netting.liquidity.certificate import CertificateError
from netting.model import ObligationRefusedError
from netting.queue import QueueRefusedError

INSTRUCTED_STATES = frozenset({State.INSTRUCTED, State.DEFERRED, State.SETTLED, State.FINAL})
RESULT_STATES = INSTRUCTED_STATES | {State.NETTED, State.APPROVED}


# --- step 7 -----------------------------------------------------------------------------------------------


def check_netting(record: CycleRecord, documents: Documents, agreed: Agreed, rules: Rules) -> str:
    """Compute the result again and compare it byte for byte; return what was done."""
    if documents.result is None or record.result is None:
        if record.state in RESULT_STATES:
            raise RefutedError(Finding.RESULT_DIFFERS, f"a cycle in state {record.state} has a result")
        if record.certificates:
            raise RefutedError(Finding.CERTIFICATE_DIFFERS, "a certificate without a result")
        return f"no result in state {record.state}"
    result = documents.result.document
    unmatched = [carried for carried in result.carried_over if carried.reason not in BY_NETTING]
    left_out = {(carried.currency, *carried.pair) for carried in unmatched}
    try:
        computed = net_cycle(
            cycle=record.cycle,
            value_date=record.value_date,
            rulebook_sha256=canonical.digest(record.rulebook),
            statements=[(of.sha256, of.position) for key, of in agreed.items() if key not in left_out],
            limits=record.limits,
            liquidity=rules.liquidity,
            carried_over=unmatched,
            edition=result.edition,
            supersedes=result.supersedes,
            defaulted=result.defaulted,
        )
    except (InconsistentInputError, ObligationRefusedError, QueueRefusedError) as error:
        raise RefutedError(Finding.RESULT_DIFFERS, str(error)) from error
    if canonical.digest(canonical.encode(computed.result)) != documents.result.sha256:
        detail = first_difference(msgspec.to_builtins(result), msgspec.to_builtins(computed.result))
        raise RefutedError(Finding.RESULT_DIFFERS, f"the result: {detail}")
    certificates = computed.certificates
    del computed  # As large as the result itself.
    unwound = frozenset(result.defaulted)
    matched = [of.position for key, of in agreed.items() if key not in left_out and unwound.isdisjoint(key[1:])]
    _check_certificates(record, matched, certificates)
    proven = sum(choice.gap_minor == "0" for choice in result.liquidity)
    return (
        f"{counted(len(result.statements), 'pair')} in {counted(len(result.results), 'currency', 'currencies')},"
        f" {proven} of {len(result.liquidity)}"
        f" proven to be the most that could settle, result {documents.result.sha256},"
        f" root that its banks were shown {committed_root(record.result)}"
    )


def _check_certificates(record: CycleRecord, matched: list[Position], computed: tuple[Certificate, ...]) -> None:
    if canonical.encode(computed) != canonical.encode(record.certificates):
        difference = first_difference(msgspec.to_builtins(record.certificates), msgspec.to_builtins(computed))
        raise RefutedError(Finding.CERTIFICATE_DIFFERS, f"the certificates: {difference}")
    # That the search comes to the same bound again doesn't make it right; the proof does.
    for certificate in record.certificates:
        try:
            check_certificate(matched, record.limits, certificate)
        except CertificateError as error:
            raise RefutedError(Finding.CERTIFICATE_DIFFERS, f"{certificate.currency}: {error}") from error


def first_difference(signed: Any, computed: Any, path: str = "") -> str:
    """Return where two JSON values first differ, in words."""
    if isinstance(signed, dict) and isinstance(computed, dict):
        for key in sorted(signed.keys() | computed.keys()):
            if signed.get(key) != computed.get(key):
                return first_difference(signed.get(key), computed.get(key), f"{path}.{key}" if path else key)
    if isinstance(signed, (list, tuple)) and isinstance(computed, (list, tuple)):
        for index, (ours, theirs) in enumerate(zip(computed, signed, strict=False)):
            if ours != theirs:
                return first_difference(theirs, ours, f"{path}[{index}]")
        return f"{path} has {len(signed)} members signed, {len(computed)} computed"
    return f"{path} is {signed!r} signed, {computed!r} computed"


# --- step 8 -----------------------------------------------------------------------------------------------


def check_instructions(record: CycleRecord, documents: Documents, signers: Signers) -> str:
    """Compute the instructions again and compare them; check that each receipt is for one of them."""
    if not documents.instructions:
        if record.state in INSTRUCTED_STATES and documents.result is not None and documents.result.document.results:
            raise RefutedError(Finding.INSTRUCTIONS_DIFFER, f"a cycle in state {record.state} has instructions")
        if documents.receipts:
            raise RefutedError(Finding.RECEIPT_DIFFERS, "a receipt without an instruction")
        return "none"
    if documents.result is None:
        raise RefutedError(Finding.INSTRUCTIONS_DIFFER, "instructions without a result")
    signed = {instruction.id: instruction for instruction in documents.instructions}
    agent = documents.instructions[0].settlement_agent
    if signers.kind(agent) != "agent":
        raise RefutedError(Finding.INSTRUCTIONS_DIFFER, f"{agent} isn't a settlement agent of the scheme")
    statements = [(of.sha256, of.position) for of in documents.attested.stated]
    computed = {
        instruction.id: instruction
        for instruction in instructions(documents.result.document, statements, documents.result.sha256, agent)
    }
    for name in sorted(signed.keys() | computed.keys()):
        if name not in computed:
            raise RefutedError(Finding.INSTRUCTIONS_DIFFER, f"instruction {name} doesn't follow from the result")
        if name not in signed:
            raise RefutedError(Finding.INSTRUCTIONS_DIFFER, f"instruction {name} is missing")
        if signed[name].sha256 != canonical.digest(canonical.encode(computed[name])):
            net, expected = signed[name].net_minor, computed[name].net_minor
            what = "its lines or its result differ" if net == expected else f"net {net} signed, {expected} computed"
            raise RefutedError(Finding.INSTRUCTIONS_DIFFER, f"instruction {name}: {what}")
    for receipt in (receipt.document for receipt in documents.receipts):
        instruction = signed.get(receipt.instruction)
        if instruction is None or instruction.participant != receipt.participant:
            raise RefutedError(Finding.RECEIPT_DIFFERS, f"{receipt.participant} acknowledges {receipt.instruction}")
        if instruction.sha256 != receipt.sha256:
            detail = f"{receipt.participant} acknowledges another content of {receipt.instruction}"
            raise RefutedError(Finding.RECEIPT_DIFFERS, detail)
    return f"{counted(len(signed), 'instruction')}, {len(documents.receipts)} acknowledged"


# --- step 9 -----------------------------------------------------------------------------------------------


def check_decisions(record: CycleRecord) -> None:
    """Check that no maker was the checker, and that each step that two persons decide was decided, once, by two."""
    confirmed: dict[str, Proposal] = {}
    for proposal in record.proposals:
        if (proposal.decision is None) != (proposal.decided_by is None):
            raise RefutedError(Finding.MAKER_IS_CHECKER, f"proposal {proposal.id} is decided by nobody")
        if proposal.decided_by is not None and same_person(proposal.decided_by, proposal.made_by):
            detail = f"{proposal.made_by} made and {proposal.decided_by} decided proposal {proposal.id}"
            raise RefutedError(Finding.MAKER_IS_CHECKER, detail)
        if proposal.decision == "confirm":
            confirmed[proposal.id] = proposal
    for event in record.events:
        action = _ACTIONS.get(str(event.data.get(TRIGGER_MEMBER))) if event.cycle == record.cycle else None
        # What the rulebook approves by itself is for `check_approval` to look into.
        if action is None or (action is Action.APPROVE and event.data.get("by") == "rulebook"):
            continue
        confirmation = confirmed.pop(str(event.data.get("proposal")), None)
        about = event.data.get("result")
        if confirmation is None or (confirmation.action, confirmation.subject_sha256) != (action, about):
            detail = f"event {event.id}: {event.type} without a second person's {action} of a proposal of its own"
            raise RefutedError(Finding.APPROVAL_MISSING, detail)


_ACTIONS: dict[str, Action] = {trigger: action for action, trigger in TRIGGERS.items()}


def check_approval(record: CycleRecord, documents: Documents, rules: Rules) -> str:
    """Check that what needed a second person's word on this result got it; return who gave it."""
    if documents.result is None or not documents.instructions:
        return "no instruction to approve"
    verdict = worst(record.checks)
    settling = settling_minor(documents.result.document.results)
    causes = four_eyes_causes(rules.approval, settling, checks_passed=verdict == "pass")
    needed = {State.NETTED: ", ".join(cause.words for cause in causes)}
    if verdict == "fail":
        # It held the cycle, so the cycle went on from there before it was approved.
        needed = {State.HELD: "a check failed", **needed}
    decisions = [
        _confirmation(record, documents.result.sha256, action, why)
        for state, why in needed.items()
        if (action := needed_decision(state, causes)) is not None
    ]
    return "; ".join(decisions) or "not asked for by the rulebook"


def _confirmation(record: CycleRecord, result: str, action: Action, why: str) -> str:
    """Return who confirmed an action on this very result; raise RefutedError if nobody did."""
    for proposal in record.proposals:
        if (proposal.action, proposal.decision, proposal.subject_sha256) == (action, "confirm", result):
            return f"{action}: {proposal.made_by} proposed, {proposal.decided_by} confirmed ({why})"
    raise RefutedError(Finding.APPROVAL_MISSING, f"instructed without a second person's {action}: {why}")


# --- step 10 ----------------------------------------------------------------------------------------------


def check_finality(record: CycleRecord, documents: Documents, signers: Signers) -> str:
    """Check that finality is there exactly when the cycle is final, and that it is of this result and agent."""
    if documents.finality is None:
        if record.state == "final":
            raise RefutedError(Finding.FINALITY_DIFFERS, "the cycle is called final, but nothing says so")
        return f"not final: the cycle's state is {record.state}"
    finality = documents.finality.document
    if record.state != "final":
        raise RefutedError(Finding.FINALITY_DIFFERS, f"final by document, {record.state} by state")
    if documents.result is None or finality.result != documents.result.sha256:
        raise RefutedError(Finding.FINALITY_DIFFERS, f"finality of the result {finality.result}")
    agents = {instruction.settlement_agent for instruction in documents.instructions}
    if signers.kind(finality.settlement_agent) != "agent" or (agents and agents != {finality.settlement_agent}):
        raise RefutedError(Finding.FINALITY_DIFFERS, f"settled by {finality.settlement_agent}, which wasn't the agent")
    return f"settled at {finality.settled_at}, reference {finality.agent_reference}"
