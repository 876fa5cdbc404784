"""A cycle checked from its documents alone: what follows from what was signed, and whether that is what was done.

Steps 6 to 10 of `compliance.verifier.verify`. Each raises `RefutedError` at the first thing that is wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from compliance.crypto import canonical
from compliance.cycle.approval import TRIGGERS, Action, ApprovalRule, four_eyes_causes, needed_decision
from compliance.cycle.certificate import Certificate
from compliance.cycle.checks import worst
from compliance.cycle.liquidity import LiquidityRule, check_certificate
from compliance.cycle.result import (
    BY_NETTING,
    InconsistentInputError,
    inconsistency,
    instructions,
    net_cycle,
    settling_minor,
)
from compliance.cycle.states import TRIGGER_MEMBER, State
from compliance.export.record import CycleRecord, Proposal
from compliance.person import same_person
from compliance.statements import CycleCut, PositionStatement
from compliance.trust import Signers
from compliance.verifier.documents import Documents, Finding, RefutedError, Signed
from netting.certificate import CertificateError
from netting.model import ObligationRefusedError
from netting.queue import QueueRefusedError

Lane = tuple[str, tuple[str, str]]
"""Currency and pair."""

INSTRUCTED_STATES = frozenset({State.INSTRUCTED, State.DEFERRED, State.SETTLED, State.FINAL})
RESULT_STATES = INSTRUCTED_STATES | {State.NETTED, State.APPROVED}


# --- step 6 -----------------------------------------------------------------------------------------------


def match(documents: Documents) -> dict[Lane, Signed[PositionStatement]]:
    """Return the agreed statement of each lane that has one: the newest revision that both banks signed alike."""
    by_lane: defaultdict[Lane, defaultdict[int, dict[str, Signed[PositionStatement]]]]
    by_lane = defaultdict(lambda: defaultdict(dict))
    for signed in documents.statements:
        statement = signed.document
        by_lane[statement.currency, statement.pair][statement.revision][signed.signer] = signed
    agreed: dict[Lane, Signed[PositionStatement]] = {}
    for lane, revisions in by_lane.items():
        for _, by_bank in sorted(revisions.items(), reverse=True):
            if len(by_bank) == 2 and len({signed.sha256 for signed in by_bank.values()}) == 1:
                agreed[lane] = next(iter(by_bank.values()))
                break
    return agreed


def check_matching(documents: Documents) -> dict[Lane, Signed[PositionStatement]]:
    """Check that the result rests on agreed statements and leaves no pair out in silence; return the agreed ones."""
    agreed = match(documents)
    declared = {
        (lane.sender, receiver, lane.currency): lane.last_sequence
        for receiver, cut in documents.cuts.items()
        for lane in cut.lanes
    }
    for lane, signed in agreed.items():
        if (contradiction := inconsistency(signed.document)) is not None:
            raise RefutedError(Finding.PAIR_NOT_MATCHED, f"{_lane(lane)}: {contradiction}")
        for flow in signed.document.flows:
            last = declared.get((flow.sender, flow.receiver, lane[0]), 0)
            # Without its receiver's cut a flow ends nowhere in particular; the pair is carried over then.
            if flow.receiver in documents.cuts and flow.last_sequence != last:
                detail = f"{_lane(lane)}: ends with payment {flow.last_sequence} of {flow.sender}, its cut with {last}"
                raise RefutedError(Finding.CUT_CONTRADICTED, detail)
    if documents.result is None:
        return agreed
    result = documents.result.document
    included = {(one.currency, one.pair): one.sha256 for one in result.statements}
    carried = {(one.currency, one.pair): one.reason for one in result.carried_over}
    for lane, sha256 in included.items():
        if lane not in agreed or agreed[lane].sha256 != sha256:
            detail = f"{_lane(lane)} is in the result, but both banks didn't sign the statement {sha256}"
            raise RefutedError(Finding.PAIR_NOT_MATCHED, detail)
    for lane in sorted({(s.document.currency, s.document.pair) for s in documents.statements}):
        if lane not in included and lane not in carried:
            raise RefutedError(Finding.PAIR_LEFT_OUT, f"{_lane(lane)} is neither in the result nor carried over")
    for lane, reason in carried.items():
        _check_carried(lane, reason, agreed=lane in agreed, cuts=documents.cuts)
    return agreed


def _check_carried(lane: Lane, reason: str, *, agreed: bool, cuts: Mapping[str, CycleCut]) -> None:
    """Check that the reason for carrying a pair over isn't disproved by the documents."""
    if reason in BY_NETTING:
        if not agreed:
            raise RefutedError(Finding.PAIR_NOT_MATCHED, f"{_lane(lane)} is carried over for a limit, but didn't match")
    elif reason == "cut_missing":
        if all(bank in cuts for bank in lane[1]):
            raise RefutedError(Finding.PAIR_LEFT_OUT, f"{_lane(lane)} is carried over, yet both cuts are there")
    elif agreed and reason in ("break", "not_attested"):
        raise RefutedError(Finding.PAIR_LEFT_OUT, f"{_lane(lane)} matched, yet is carried over as {reason}")


def _lane(lane: Lane) -> str:
    return f"{lane[0]} {'/'.join(lane[1])}"


# --- step 7 -----------------------------------------------------------------------------------------------


def check_netting(record: CycleRecord, documents: Documents, agreed: Mapping[Lane, Signed[PositionStatement]]) -> str:
    """Compute the result again and compare it byte for byte; return what was done."""
    if documents.result is None:
        if record.state in RESULT_STATES:
            raise RefutedError(Finding.RESULT_DIFFERS, f"a cycle in state {record.state} has a result")
        if record.certificates:
            raise RefutedError(Finding.CERTIFICATE_DIFFERS, "a certificate without a result")
        return f"no result in state {record.state}"
    result = documents.result.document
    given = [carried for carried in result.carried_over if carried.reason not in BY_NETTING]
    left_out = {(carried.currency, carried.pair) for carried in given}
    try:
        computed = net_cycle(
            cycle=record.cycle,
            value_date=record.value_date,
            rulebook_sha256=canonical.digest(record.rulebook),
            statements=[(signed.sha256, signed.document) for lane, signed in agreed.items() if lane not in left_out],
            limits=record.limits,
            liquidity=_rules(record).liquidity,
            carried_over=given,
            edition=result.edition,
            supersedes=result.supersedes,
            defaulted=result.defaulted,
        )
    except (InconsistentInputError, ObligationRefusedError, QueueRefusedError) as error:
        raise RefutedError(Finding.RESULT_DIFFERS, str(error)) from error
    if canonical.encode(computed.result) != canonical.encode(result):
        detail = first_difference(msgspec.to_builtins(result), msgspec.to_builtins(computed.result))
        raise RefutedError(Finding.RESULT_DIFFERS, f"the result: {detail}")
    unwound = frozenset(result.defaulted)
    matched = [one.document for lane, one in agreed.items() if lane not in left_out and unwound.isdisjoint(lane[1])]
    _check_certificates(record, matched, computed.certificates)
    settled = sum(one.gap_minor == "0" for one in result.liquidity)
    return (
        f"{len(result.statements)} pairs in {len(result.results)} currencies, {settled} of {len(result.liquidity)}"
        f" proven to be the most that could settle, result {documents.result.sha256}"
    )


def _check_certificates(
    record: CycleRecord, matched: list[PositionStatement], computed: tuple[Certificate, ...]
) -> None:
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
        for index, (one, other) in enumerate(zip(signed, computed, strict=False)):
            if one != other:
                return first_difference(one, other, f"{path}[{index}]")
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
    signed = {instruction.document.id: instruction for instruction in documents.instructions}
    agent = documents.instructions[0].document.settlement_agent
    if signers.kind(agent) != "agent":
        raise RefutedError(Finding.INSTRUCTIONS_DIFFER, f"{agent} isn't a settlement agent of the scheme")
    statements = [(one.sha256, one.document) for one in documents.statements]
    computed = {
        instruction.id: instruction
        for instruction in instructions(documents.result.document, statements, documents.result.sha256, agent)
    }
    for name in sorted(signed.keys() | computed.keys()):
        if name not in computed:
            raise RefutedError(Finding.INSTRUCTIONS_DIFFER, f"instruction {name} doesn't follow from the result")
        if name not in signed:
            raise RefutedError(Finding.INSTRUCTIONS_DIFFER, f"instruction {name} is missing")
        if signed[name].document != computed[name]:
            found, expected = msgspec.to_builtins(signed[name].document), msgspec.to_builtins(computed[name])
            detail = f"instruction {name}: {first_difference(found, expected)}"
            raise RefutedError(Finding.INSTRUCTIONS_DIFFER, detail)
    for receipt in documents.receipts:
        said = receipt.document
        instruction = signed.get(said.instruction)
        if instruction is None or instruction.document.participant != said.participant:
            raise RefutedError(Finding.RECEIPT_DIFFERS, f"{said.participant} acknowledges {said.instruction}")
        if instruction.sha256 != said.sha256:
            detail = f"{said.participant} acknowledges another content of {said.instruction}"
            raise RefutedError(Finding.RECEIPT_DIFFERS, detail)
    return f"{len(signed)} instructions, {len(documents.receipts)} acknowledged"


# --- step 9 -----------------------------------------------------------------------------------------------


class _Rules(Struct, frozen=True):
    """The part of a rulebook that decides on what settles, and on four eyes."""

    approval: ApprovalRule
    liquidity: LiquidityRule


def _rules(record: CycleRecord) -> _Rules:
    try:
        return msgspec.json.decode(record.rulebook, type=_Rules)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RefutedError(Finding.FORMAT_VIOLATION, f"rulebook.json: {error}") from error


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
        decided = confirmed.pop(str(event.data.get("proposal")), None)
        if decided is None or (decided.action, decided.subject_sha256) != (action, event.data.get("result")):
            detail = f"event {event.id}: {event.type} without a second person's {action} of a proposal of its own"
            raise RefutedError(Finding.APPROVAL_MISSING, detail)


_ACTIONS: dict[str, Action] = {trigger: action for action, trigger in TRIGGERS.items()}


def check_approval(record: CycleRecord, documents: Documents) -> str:
    """Check that what needed a second person's word on this result got it; return who gave it."""
    rules = _rules(record)
    if documents.result is None or not documents.instructions:
        return "no instruction to approve"
    verdict = worst(record.checks)
    settling = settling_minor(documents.result.document)
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


def check_finality(record: CycleRecord, documents: Documents) -> str:
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
    agents = {instruction.document.settlement_agent for instruction in documents.instructions}
    if agents and agents != {finality.settlement_agent}:
        raise RefutedError(Finding.FINALITY_DIFFERS, f"settled by {finality.settlement_agent}")
    return f"settled at {finality.settled_at}, reference {finality.agent_reference}"
