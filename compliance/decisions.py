"""Operators' decisions as signatures: what must be signed, by whom, for two people to have decided something. Pure.

An operator signs what was shown (`Act`) by the key that signs in, and nobody else holds: not the coordinator, not who
finds a token. Four eyes are met by two of these signatures over the same act, of two persons with two keys; the
coordinator asks here before it does anything, and so does whoever believes the coordinator nothing: the settlement
agent, and the verifier years later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.crypto.keys import Signer, VerifyingKey
from compliance.cycle.approval import Action
from compliance.person import same_person
from compliance.statements import Act, ActKind, OperatorDecision, OperatorRegister

CYCLE_KINDS: Mapping[Action, ActKind] = {action: ActKind(f"cycle.{action}") for action in Action}

DECISION_AGE_MAX = timedelta(minutes=10)
"""Between signing a decision and its arrival, either way: clocks differ, and people look again before they send."""

OperatorKeys = Mapping[str, Mapping[str, VerifyingKey]]
"""The keys of each operator, by the operator's name and the key's id."""


class DecisionFault(StrEnum):
    """Why a signed decision doesn't count, in order of precedence."""

    OPERATOR_UNKNOWN = "operator_unknown"
    """No operator of that name is in the register."""
    SIGNATURE_REFUSED = "signature_refused"
    """It isn't signed by a key of the operator whom it names, or isn't such a document."""
    OTHER_OPERATOR = "other_operator"
    OTHER_COORDINATOR = "other_coordinator"
    """It is for another clearing house."""
    OTHER_ACTION = "other_action"
    OTHER_ACT = "other_act"
    """It is over another act than what is to be done."""
    OTHER_PROPOSAL = "other_proposal"
    """It answers another proposal."""
    MAKER_IS_CHECKER = "maker_is_checker"
    """The same person, however the name is written, or the same key."""


class DecisionError(Exception):
    """A decision that doesn't count. `fault` is stable; the message says what and where."""

    def __init__(self, fault: DecisionFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class SignedDecision:
    """A verified decision, the digest of its canonical bytes, and the key that signed it."""

    document: OperatorDecision
    sha256: str
    kid: str


# --- what is decided ------------------------------------------------------------------------------------------


def cycle_act(action: Action, cycle: str, *, result: str | None, participants: Collection[str] = ()) -> Act:
    """Return what an action on a cycle is, and on which result: its digest, None before there is one."""
    terms = {} if result is None else {"result": result}
    if participants:
        terms["participants"] = " ".join(sorted(set(participants)))
    return Act(kind=CYCLE_KINDS[action], subject=cycle, terms=terms)


def shown(act: Act) -> str:
    """Return the digest of an act: what operators sign."""
    return canonical.digest(canonical.encode(act))


def lines(act: Act) -> tuple[str, ...]:
    """Return what an act says besides its subject, for people: each value from what it was to what it will be."""
    said = []
    for name in sorted(act.terms.keys() | act.before.keys()):
        before, after = act.before.get(name), act.terms.get(name)
        if before is None:
            said.append(f"{name}: {after}")
        else:
            said.append(f"{name}: {before} now" if after is None else f"{name}: from {before} to {after}")
    return tuple(said)


def propose(act: Act, signer: Signer, *, operator: str, coordinator: str, reason: str, at: str) -> Envelope:
    """Sign a proposal to do something."""
    document = OperatorDecision(
        coordinator=coordinator,
        operator=operator,
        action="propose",
        kind=act.kind,
        subject=act.subject,
        shown=shown(act),
        reason=reason,
        at=at,
    )
    return dsse.sign(document, signer)


def answer(
    act: Act,
    proposed: Envelope,
    signer: Signer,
    *,
    operator: str,
    coordinator: str,
    confirm: bool,
    reason: str | None,
    at: str,
) -> Envelope:
    """Sign the answer to another operator's proposal."""
    document = OperatorDecision(
        coordinator=coordinator,
        operator=operator,
        action="confirm" if confirm else "reject",
        kind=act.kind,
        subject=act.subject,
        shown=shown(act),
        proposal=canonical.digest(proposed.payload_bytes()),
        reason=reason,
        at=at,
    )
    return dsse.sign(document, signer)


# --- whether it counts ----------------------------------------------------------------------------------------


def operator_keys(registers: Iterable[OperatorRegister]) -> OperatorKeys:
    """Return the keys that decide: those of operators that are active in at least one register.

    Raises ValueError for a key that isn't one, or isn't the one that its id names.
    """
    keys: dict[str, dict[str, VerifyingKey]] = {}
    for register in registers:
        for entry in register.operators:
            key = VerifyingKey(entry.x)
            if key.kid != entry.kid:
                raise ValueError(f"key {entry.kid} of {entry.name} has the thumbprint {key.kid}")
            if entry.role == "operator" and entry.status == "active":
                keys.setdefault(entry.name, {})[key.kid] = key
    return keys


def valid_decision(
    envelope: Envelope, keys: OperatorKeys, act: Act, *, operator: str, action: str, coordinator: str
) -> SignedDecision:
    """Verify one operator's decision on an act. Raises DecisionError.

    It is one signature, of a key of `operator`, over a document that says exactly this.
    """
    own = keys.get(operator)
    if not own:
        raise DecisionError(DecisionFault.OPERATOR_UNKNOWN, f"{operator} is no operator")
    try:
        document = dsse.verify_submitted(envelope, OperatorDecision, own)
    except EvidenceError as error:
        detail = f"not signed by {operator}: {error} ({error.reason})"
        raise DecisionError(DecisionFault.SIGNATURE_REFUSED, detail) from error
    if document.operator != operator:
        raise DecisionError(DecisionFault.OTHER_OPERATOR, f"it speaks for {document.operator}, not {operator}")
    if document.coordinator != coordinator:
        raise DecisionError(DecisionFault.OTHER_COORDINATOR, f"it is for {document.coordinator}, not {coordinator}")
    if document.action != action:
        raise DecisionError(DecisionFault.OTHER_ACTION, f"{operator} signed to {document.action}, not to {action}")
    if (document.kind, document.subject, document.shown) != (act.kind, act.subject, shown(act)):
        detail = f"{operator} signed {document.kind} of {document.subject} ({document.shown[:16]}…), not {shown(act)}"
        raise DecisionError(DecisionFault.OTHER_ACT, detail)
    sha256 = canonical.digest(envelope.payload_bytes())
    return SignedDecision(document, sha256, envelope.signatures[0].keyid)


def is_fresh(decision: OperatorDecision, taken_in_at: datetime, *, slack: timedelta = timedelta()) -> bool:
    """Tell whether a decision was signed about when it was taken in. `slack` is for clocks that aren't the same."""
    try:
        signed_at = datetime.fromisoformat(decision.at)
    except ValueError:  # of the form of a time, and none: 2026-13-45
        return False
    return abs(taken_in_at - signed_at) <= DECISION_AGE_MAX + slack


def require_other_eyes(proposed: SignedDecision, answered: SignedDecision) -> None:
    """Check that one decision answers the other, and that two people made them. Raises DecisionError."""
    if answered.document.proposal != proposed.sha256:
        detail = f"it answers {answered.document.proposal}, not {proposed.sha256}"
        raise DecisionError(DecisionFault.OTHER_PROPOSAL, detail)
    maker, checker = proposed.document.operator, answered.document.operator
    if same_person(maker, checker):
        raise DecisionError(DecisionFault.MAKER_IS_CHECKER, f"{checker} made the proposal; somebody else decides")
    if proposed.kid == answered.kid:
        raise DecisionError(DecisionFault.MAKER_IS_CHECKER, f"{maker} and {checker} signed by one key")


def four_eyes_met(
    act: Act, proposed: Envelope, confirmed: Envelope, keys: OperatorKeys, *, coordinator: str
) -> tuple[SignedDecision, SignedDecision]:
    """Verify that two operators decided to do something; return their decisions. Raises DecisionError.

    For whoever knows the two envelopes only, as the settlement agent does.
    """
    maker, checker = (_claimed(envelope) for envelope in (proposed, confirmed))
    first = valid_decision(proposed, keys, act, operator=maker, action="propose", coordinator=coordinator)
    second = valid_decision(confirmed, keys, act, operator=checker, action="confirm", coordinator=coordinator)
    require_other_eyes(first, second)
    return first, second


def _claimed(envelope: Envelope) -> str:
    """Return whose decision it says it is; nothing is verified yet."""
    try:
        return canonical.decode(envelope.payload_bytes(), OperatorDecision).operator
    except (EvidenceError, ValueError) as error:  # msgspec's errors are ValueErrors
        raise DecisionError(DecisionFault.SIGNATURE_REFUSED, f"not a decision: {error}") from error
