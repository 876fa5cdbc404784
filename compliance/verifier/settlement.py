"""What was asked of the settlement agent and what it answered: signed by who says it, and equal to the result.

Part of step 10 of `compliance.verifier.verify`. Raises `RefutedError` at the first thing that is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compliance.counting import counted
from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.cycle.states import State, Trigger
from compliance.event_log import LoggedEvent
from compliance.export.record import CycleRecord, SignedSettlement
from compliance.iso20022 import (
    INSUFFICIENT_FUNDS,
    NO_MOVEMENT,
    SETTLEMENT_ANSWER_TYPE,
    SETTLEMENT_REQUEST_TYPE,
    AnsweredSettlement,
    MessageError,
    RequestedSettlement,
    read_answer,
    read_request,
    request_id,
)
from compliance.statements import NettingResult
from compliance.trust import Signers
from compliance.verifier.editions import Edition
from compliance.verifier.findings import Finding, RefutedError, instant
from compliance.verifier.log import Asked, Settled, facts_of, trigger_of
from compliance.verifier.moments import ANSWERED, ASKED, Moments


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What the log tells of one request to the agent: for which edition of the result, and what came of it."""

    edition: int
    outcome: LoggedEvent | None


def check_settlements(record: CycleRecord, editions: Sequence[Edition], moments: Moments, coordinator: str) -> str:
    """Check every request and answer, and that the agent itself says of a final cycle that it is settled."""
    if not record.operators:
        return "settlement messages of before were not signed"
    settled: list[AnsweredSettlement] = []
    attempts = _attempts(record)
    for settlement in record.settlements:
        attempt = attempts.get(settlement.attempt)
        where = f"settlements.jsonl attempt {settlement.attempt}"
        if attempt is None or attempt.edition != settlement.edition:
            raise RefutedError(Finding.SETTLEMENT_DIFFERS, f"{where}: the log tells of no such attempt")
        answer = _check(settlement, record, editions, moments, coordinator)
        _check_outcome(where, answer, attempt.outcome)
        if answer is not None and answer.settled:
            settled.append(answer)
    kept = {settlement.attempt for settlement in record.settlements}
    for number, attempt in attempts.items():
        if number not in kept:
            _check_unasked(number, attempt, editions)
    if len(settled) > 1:
        raise RefutedError(Finding.SETTLEMENT_DIFFERS, f"the agent settled the cycle {len(settled)} times")
    if record.state not in (State.SETTLED, State.FINAL):
        if settled:
            raise RefutedError(Finding.SETTLEMENT_DIFFERS, f"the agent settled a cycle in state {record.state}")
        return f"{counted(len(record.settlements), 'request')} to the agent, none settled"
    if not settled:
        return "nothing was to move"
    _check_finality(editions[-1], settled[0])
    return f"{counted(len(record.settlements), 'request')} to the agent, its answer signed by {settled[0].sender}"


def _attempts(record: CycleRecord) -> dict[int, _Attempt]:
    """Return what the log tells of each attempt; step 11 checks that they count up."""
    attempts: dict[int, _Attempt] = {}
    edition = 0
    for event in record.events:
        trigger = trigger_of(event) if event.cycle == record.cycle else None
        if trigger in (Trigger.NETTED, Trigger.CHECK_FAILED):
            edition += 1
        elif trigger in ASKED:
            attempts[facts_of(event, Asked).attempt] = _Attempt(edition, None)
        elif trigger in ANSWERED:
            number = facts_of(event, Asked).attempt
            attempts[number] = _Attempt(edition, event)
    return attempts


def _check_outcome(where: str, answer: AnsweredSettlement | None, outcome: LoggedEvent | None) -> None:
    """Check that the agent's answer is what the log says it was: what it didn't sign is no answer."""
    trigger = None if outcome is None else trigger_of(outcome)
    if answer is None:
        if trigger is not None:
            raise RefutedError(Finding.SETTLEMENT_DIFFERS, f"{where}: no answer of the agent, and the log has one")
        return
    if trigger is not (answered := _trigger(answer)):
        detail = f"{where}: the agent's answer means {answered or 'nothing'}, and the log says {trigger or 'nothing'}"
        raise RefutedError(Finding.SETTLEMENT_DIFFERS, detail)
    if outcome is not None and answer.settled:
        said = facts_of(outcome, Settled)
        if (said.reference, instant(said.settled_at, "the settlement")) != (answer.reference, answer.settled_at):
            detail = f"{where}: the agent settled as {answer.reference}, the log says {said.reference}"
            raise RefutedError(Finding.FINALITY_DIFFERS, detail)


def _trigger(answer: AnsweredSettlement) -> Trigger | None:
    """Return what an answer makes of the cycle; None for one that leaves it open."""
    if answer.settled:
        return Trigger.AGENT_SETTLED
    if answer.reason is None:
        return None
    return Trigger.AGENT_SHORT_OF_FUNDS if answer.reason == INSUFFICIENT_FUNDS else Trigger.AGENT_REJECTED


def _check_unasked(number: int, attempt: _Attempt, editions: Sequence[Edition]) -> None:
    """Check that an attempt without a request had nothing to ask for."""
    result = editions[attempt.edition - 1].documents.result if attempt.edition <= len(editions) else None
    if result is not None and nets(result.document):
        raise RefutedError(Finding.SETTLEMENT_DIFFERS, f"settlements.jsonl holds no attempt {number}, the log does")
    if attempt.outcome is not None and attempt.outcome.data.get("reference") != NO_MOVEMENT:
        detail = f"event {attempt.outcome.id}: the agent wasn't asked, and answered {attempt.outcome.data}"
        raise RefutedError(Finding.SETTLEMENT_DIFFERS, detail)


def nets(result: NettingResult) -> dict[tuple[str, str], int]:
    """Return what a result moves, by participant and currency."""
    return {
        (position.participant, of_currency.currency): int(position.net_minor)
        for of_currency in result.results
        for position in of_currency.positions
        if position.net_minor != "0"
    }


def _check(
    settlement: SignedSettlement, record: CycleRecord, editions: Sequence[Edition], moments: Moments, coordinator: str
) -> AnsweredSettlement | None:
    """Check one request against the edition of the result that it is for, and its answer; return the answer."""
    where = f"settlements.jsonl attempt {settlement.attempt}"
    if settlement.edition > len(editions):
        raise RefutedError(Finding.SETTLEMENT_DIFFERS, f"{where}: no edition {settlement.edition} of the result")
    documents = editions[settlement.edition - 1].documents
    request = _read_request(where, settlement.request, moments.members, coordinator)
    agents = {instruction.settlement_agent for instruction in documents.instructions}
    about = (request.sender, request.cycle, request.value_date)
    if about != (coordinator, record.cycle, record.value_date) or agents != {request.receiver}:
        detail = f"{where}: from {request.sender} to {request.receiver} about {request.cycle} on {request.value_date}"
        raise RefutedError(Finding.SETTLEMENT_DIFFERS, detail)
    # The answer names the request by this id alone: it must be of no other cycle and attempt.
    if request.message_id != request_id(record.cycle, settlement.attempt):
        raise RefutedError(Finding.SETTLEMENT_DIFFERS, f"{where}: the request's id is {request.message_id}")
    if documents.result is None or request.movements != nets(documents.result.document):
        raise RefutedError(Finding.SETTLEMENT_DIFFERS, f"{where}: asks for something else than the result comes to")
    if settlement.answer is None:
        return None
    answer = _read_answer(where, settlement.answer, moments.answer(settlement.attempt), request.receiver)
    expected = (request.receiver, request.sender, request.message_id)
    if (answer.sender, answer.receiver, answer.message_id) != expected:
        raise RefutedError(Finding.SETTLEMENT_DIFFERS, f"{where}: the answer is to another request")
    return answer


def _read_request(where: str, envelope: Envelope, signers: Signers, coordinator: str) -> RequestedSettlement:
    try:
        return read_request(_opened(where, envelope, signers, coordinator, SETTLEMENT_REQUEST_TYPE))
    except MessageError as error:
        raise RefutedError(Finding.SETTLEMENT_DIFFERS, f"{where}: the request: {error}") from error


def _read_answer(where: str, envelope: Envelope, signers: Signers, agent: str) -> AnsweredSettlement:
    try:
        return read_answer(_opened(where, envelope, signers, agent, SETTLEMENT_ANSWER_TYPE))
    except MessageError as error:
        raise RefutedError(Finding.SETTLEMENT_DIFFERS, f"{where}: the answer: {error}") from error


def _opened(where: str, envelope: Envelope, signers: Signers, signer: str, payload_type: str) -> bytes:
    try:
        dsse.require_nothing_free(envelope)
        return dsse.open_(envelope, signers.of(signer), payload_type=payload_type)
    except EvidenceError as error:
        detail = f"{where} must be signed by {signer}: {error} ({error.reason})"
        raise RefutedError(Finding.SIGNATURE_REFUSED, detail) from error


def _check_finality(edition: Edition, answer: AnsweredSettlement) -> None:
    finality = edition.documents.finality
    if finality is None:
        return
    said = (finality.document.settlement_agent, finality.document.agent_reference)
    if said != (answer.sender, answer.reference):
        raise RefutedError(Finding.FINALITY_DIFFERS, f"the agent's own reference is {answer.reference}")
    if instant(finality.document.settled_at, "finality") != answer.settled_at:
        raise RefutedError(Finding.FINALITY_DIFFERS, f"the agent settled at {answer.settled_at}")
