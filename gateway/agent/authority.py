"""Whether the coordinator is entitled to the settlement that it asks for. Pure.

The coordinator's access token opens the door and no more. What moves money is signed by its `sign` key: the request
itself, and the cycle's result, whose nets the request moves to the last unit. Where the scheme's rulebook asks for
four eyes, or the one that the agent's own people gave it, two operators signed that they approve this very result, by
keys that the coordinator doesn't hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import permutations
from pathlib import Path
from typing import NoReturn

import msgspec
from msgspec import Struct

from compliance.calendars import SchemeCalendar, ValueDates
from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.crypto.keys import VerifyingKey
from compliance.cycle.approval import Action, ApprovalRule, four_eyes_causes, needed_decision
from compliance.cycle.result import settling_minor
from compliance.cycle.states import State
from compliance.decisions import DecisionError, OperatorKeys, cycle_act, four_eyes_met, operator_keys
from compliance.iso20022 import SETTLEMENT_REQUEST_TYPE
from compliance.statements import NettingResult, OperatorRegister
from gateway.federation.iso20022 import Movement, SettlementRequest, read_settlement_request
from gateway.federation.messages.settlement import SettlementOrder
from gateway.federation.problems import Refusal, RefusalReason
from gateway.federation.rulebook_file import read_rulebook


class AuthorityReason(RefusalReason):
    """Why the agent doesn't settle what it is asked to, in order of precedence. Nothing is stored of such an order."""

    REQUEST_SIGNATURE_REFUSED = "request_signature_refused", 403
    """No active `sign` key of the coordinator signed the pacs.029 as it is. One that was answered needs a known key."""
    NOT_FOR_US = "not_for_us", 422
    """The request is from somebody else than the coordinator, or to another agent."""
    AGENT_NOT_ACTIVE = "agent_not_active", 503
    """The trust list doesn't name this agent as active."""
    RESULT_SIGNATURE_REFUSED = "result_signature_refused", 403
    """No `sign` key of the coordinator signed the result."""
    CYCLE_DIFFERS = "cycle_differs", 422
    """The request is of another cycle or value date than the result."""
    MOVEMENTS_DIFFER = "movements_differ", 422
    """What the request moves isn't what the result comes to."""
    RULEBOOK_DIFFERS = "rulebook_differs", 422
    """The rulebook isn't the one that the result names, or can't be read."""
    VALUE_DATE_REFUSED = "value_date_refused", 422
    """The value date isn't the business day that it is, or the system of a currency that moves is closed on it."""
    OPERATORS_REFUSED = "operators_refused", 422
    """The register of operators isn't signed by the coordinator, or is older than one that the agent has seen."""
    APPROVAL_MISSING = "approval_missing", 422
    """A rulebook asks for two operators, and two signatures of theirs over this result aren't there."""
    EDITION_SUPERSEDED = "edition_superseded", 409
    """The agent has seen a later edition of the cycle's result."""
    CYCLE_SETTLED = "cycle_settled", 409
    """The cycle was settled under another message id."""


REJECTED = frozenset(
    {
        AuthorityReason.CYCLE_DIFFERS,
        AuthorityReason.MOVEMENTS_DIFFER,
        AuthorityReason.RULEBOOK_DIFFERS,
        AuthorityReason.VALUE_DATE_REFUSED,
        AuthorityReason.APPROVAL_MISSING,
    }
)
"""What is answered for good, signed, under the message's id. All else is no answer: the coordinator asks again."""
ALWAYS = ApprovalRule(mode="always", thresholds_minor={})


@dataclass(frozen=True, kw_only=True)
class Coordinator:
    """Whom the agent settles for, as its trust list says: `active` and `known` are `sign` keys, the latter also old."""

    bic: str
    active: Mapping[str, VerifyingKey]
    known: Mapping[str, VerifyingKey]


@dataclass(frozen=True, kw_only=True)
class SignedRequest:
    """A request that the coordinator signed and sent to this agent. `current` says whether its key is active."""

    request: SettlementRequest
    document: bytes
    current: bool


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """What the documents of an order say of each other: the coordinator is entitled to it, unless it is `rejected`."""

    request: SettlementRequest
    document: bytes
    result_sha256: str
    edition: int
    operators: OperatorRegister | None = None
    operators_sha256: str | None = None
    rejected: Refusal | None = None


class Rules(Struct, frozen=True):
    """The part of a rulebook that the agent goes by. One that names no calendar closes no day."""

    approval: ApprovalRule
    calendar: SchemeCalendar = "every_day"
    settlement_systems: dict[str, str] = msgspec.field(default_factory=dict)
    time_zone: str = "UTC"

    def __post_init__(self) -> None:
        """Refuse a calendar, system or zone that isn't known. Raises ValueError."""
        _ = self.days

    @property
    def days(self) -> ValueDates:
        return ValueDates(self.calendar, self.settlement_systems, self.time_zone)


def own_rules(path: Path | None) -> Rules:
    """Return what the agent's own people ask for: always two operators, where they named no rulebook.

    Raises RulebookError.
    """
    return Rules(ALWAYS) if path is None else read_rulebook(path, Rules)


def signed_request(envelope: Envelope, *, coordinator: Coordinator, agent: str) -> SignedRequest:
    """Read a request that any key of the coordinator's signed, from it and to us. Raises Refusal, MessageRefused."""
    document = _opened(envelope, coordinator.known, SETTLEMENT_REQUEST_TYPE)
    request = read_settlement_request(document)
    if (request.sender, request.receiver) != (coordinator.bic, agent):
        _refuse(AuthorityReason.NOT_FOR_US, f"the request is from {request.sender} to {request.receiver}")
    current = any(signature.keyid in coordinator.active for signature in envelope.signatures)
    return SignedRequest(request=request, document=document, current=current)


def judge(
    order: SettlementOrder, asked: SignedRequest, *, coordinator: Coordinator, own: Rules, at: datetime
) -> Ruling:
    """Check all that an order's documents say of each other at an instant.

    Raises Refusal for what isn't rejected for good.
    """
    # 1. The coordinator signed this request with a key that it has now.
    if not asked.current:
        _refuse(AuthorityReason.REQUEST_SIGNATURE_REFUSED, "the key that signed the request is retired")
    # 2. It signed the result.
    result = _result(order.result, coordinator)
    request, sha256 = asked.request, canonical.digest(order.result.payload_bytes())
    # Another cycle's result, which is kept with the answer, supersedes nothing of this one.
    edition = result.edition if result.cycle == request.cycle else 0
    judged = Ruling(request=request, document=asked.document, result_sha256=sha256, edition=edition)
    try:
        # 3. The request moves what the result comes to, on its day. That this sums to zero was checked with the form.
        if (request.cycle, request.value_date.isoformat()) != (result.cycle, result.value_date):
            _refuse(AuthorityReason.CYCLE_DIFFERS, f"the result is of {result.cycle}, value {result.value_date}")
        if sorted(request.movements) != nets(result):
            _refuse(AuthorityReason.MOVEMENTS_DIFFER, "the movements aren't the nets of the result")
        # 4. That day is today, and all that moves is open.
        rules = (_rules(order.rulebook, result), own)
        _require_value_date(request, rules, at)
        # 5. What the rulebooks ask for was decided.
        register = _require_approval(order, [of.approval for of in rules], result, sha256, coordinator)
    except Refusal as refused:
        if refused.reason not in REJECTED:
            raise
        return replace(judged, rejected=refused)
    digest = None if register is None else canonical.digest(canonical.encode(register))
    return replace(judged, operators=register, operators_sha256=digest)


def nets(result: NettingResult) -> list[Movement]:
    """Return what a result moves, in the order of movements."""
    return sorted(
        Movement(position.participant, of_currency.currency, int(position.net_minor))
        for of_currency in result.results
        for position in of_currency.positions
        if position.net_minor != "0"
    )


def _opened(envelope: Envelope, keys: Mapping[str, VerifyingKey], payload_type: str) -> bytes:
    try:
        dsse.require_nothing_free(envelope)
        return dsse.open_(envelope, keys, payload_type=payload_type)
    except EvidenceError as error:
        raise Refusal(AuthorityReason.REQUEST_SIGNATURE_REFUSED, f"{error} ({error.reason})") from error


def _result(envelope: Envelope, coordinator: Coordinator) -> NettingResult:
    try:
        return dsse.verify_submitted(envelope, NettingResult, coordinator.known)
    except EvidenceError as error:
        raise Refusal(AuthorityReason.RESULT_SIGNATURE_REFUSED, f"{error} ({error.reason})") from error


def _rules(rulebook: str, result: NettingResult) -> Rules:
    data = rulebook.encode()
    if canonical.digest(data) != result.rulebook:
        _refuse(AuthorityReason.RULEBOOK_DIFFERS, "the rulebook isn't the one that the result names")
    try:
        # In the one form that says everything once: of two members of one name, another reader may take the other.
        if canonical.encode(msgspec.json.decode(data)) != data:
            _refuse(AuthorityReason.RULEBOOK_DIFFERS, "the rulebook isn't canonical JSON")
        return msgspec.json.decode(data, type=Rules)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Refusal(AuthorityReason.RULEBOOK_DIFFERS, f"the rulebook can't be read: {error}") from error


def _require_value_date(request: SettlementRequest, rules: tuple[Rules, Rules], at: datetime) -> None:
    """Check that the value date is today, by the scheme's clock, and that all that moves is open by either calendar."""
    today = rules[0].days.today(at)
    if request.value_date != today:
        detail = f"the value date is {request.value_date.isoformat()}, and the business day {today.isoformat()}"
        _refuse(AuthorityReason.VALUE_DATE_REFUSED, detail)
    currencies = {movement.currency for movement in request.movements}
    for of in rules:
        if closed := of.days.closed_of(currencies, today):
            said = ", ".join(f"{currency} ({why})" for currency, why in closed.items())
            _refuse(AuthorityReason.VALUE_DATE_REFUSED, f"closed on {today.isoformat()}: {said}")


def needed_actions(rule: ApprovalRule, result: NettingResult, *, checks: str) -> tuple[Action, ...]:
    """Return what two operators must have decided on a result before it settles."""
    causes = four_eyes_causes(rule, settling_minor(result.results), checks_passed=checks == "pass")
    # A failed check held the cycle, and it came back to where it is approved.
    states = (State.HELD, State.NETTED) if checks == "fail" else (State.NETTED,)
    return tuple(action for state in states if (action := needed_decision(state, causes)) is not None)


def _require_approval(
    order: SettlementOrder,
    rules: Sequence[ApprovalRule],
    result: NettingResult,
    sha256: str,
    coordinator: Coordinator,
) -> OperatorRegister | None:
    """Check that two operators decided all that needs two by any rule; return the register that says who they are."""
    needed = {action for rule in rules for action in needed_actions(rule, result, checks=order.checks)}
    if not needed:
        return None
    if order.operators is None:
        _refuse(AuthorityReason.APPROVAL_MISSING, "no register of operators")
    try:
        register = dsse.verify_submitted(order.operators, OperatorRegister, coordinator.active)
        keys = operator_keys([register])
    except (EvidenceError, ValueError) as error:
        raise Refusal(AuthorityReason.OPERATORS_REFUSED, str(error)) from error
    if register.coordinator != coordinator.bic:
        _refuse(AuthorityReason.OPERATORS_REFUSED, f"the operators are of {register.coordinator}")
    for action in sorted(needed):
        _require_two(action, order.decisions, keys, result.cycle, sha256, coordinator.bic)
    return register


def _require_two(
    action: Action, decisions: tuple[Envelope, ...], keys: OperatorKeys, cycle: str, result: str, coordinator: str
) -> None:
    act = cycle_act(action, cycle, result=result)
    faults = []
    for proposed, confirmed in permutations(decisions, 2):
        try:
            four_eyes_met(act, proposed, confirmed, keys, coordinator=coordinator)
        except DecisionError as error:
            faults.append(error.fault)
        else:
            return
    why = ", ".join(sorted(set(faults))) or "nothing signed"
    _refuse(AuthorityReason.APPROVAL_MISSING, f"two operators must have signed to {action} result {result}: {why}")


def _refuse(reason: AuthorityReason, detail: str) -> NoReturn:
    raise Refusal(reason, detail)
