"""What was asked of the settlement agent and what it answered: signed by who says it, and equal to the result.

Part of step 10 of `compliance.verifier.verify`. Raises `RefutedError` at the first thing that is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.cycle.states import TRIGGER_MEMBER, State, Trigger
from compliance.export.record import FORMAT_2, CycleRecord, SignedSettlement
from compliance.iso20022 import (
    SETTLEMENT_ANSWER_TYPE,
    SETTLEMENT_REQUEST_TYPE,
    AnsweredSettlement,
    MessageError,
    RequestedSettlement,
    read_answer,
    read_request,
)
from compliance.statements import NettingResult
from compliance.trust import Signers
from compliance.verifier.editions import Edition
from compliance.verifier.findings import Finding, RefutedError, instant
from compliance.verifier.moments import Moments


def check_settlements(record: CycleRecord, editions: Sequence[Edition], moments: Moments, coordinator: str) -> str:
    """Check every request and answer, and that the agent itself says of a final cycle that it is settled."""
    if record.format == FORMAT_2:
        return "settlement messages of before were not signed"
    settled: list[AnsweredSettlement] = []
    asked = _attempts(record, Trigger.INSTRUCTIONS_SIGNED, Trigger.REQUEST_REPEATED)
    answered = _attempts(record, Trigger.AGENT_SETTLED)
    for settlement in record.settlements:
        answer = _check(settlement, record.cycle, editions, moments, coordinator)
        if answer is not None and answer.settled:
            settled.append(answer)
        known = answered if answer is not None and answer.settled and answered else asked
        if settlement.attempt not in known:
            detail = f"settlements.jsonl attempt {settlement.attempt}: the log tells of no such attempt"
            raise RefutedError(Finding.SETTLEMENT_DIFFERS, detail)
    if len(settled) > 1:
        raise RefutedError(Finding.SETTLEMENT_DIFFERS, f"the agent settled the cycle {len(settled)} times")
    if record.state not in (State.SETTLED, State.FINAL):
        if settled:
            raise RefutedError(Finding.SETTLEMENT_DIFFERS, f"the agent settled a cycle in state {record.state}")
        return f"{len(record.settlements)} requests to the agent, none settled"
    result = editions[-1].documents.result
    if result is None or not nets(result.document):
        if record.settlements and settled:
            raise RefutedError(Finding.SETTLEMENT_DIFFERS, "the agent moved something, and the result nothing")
        return "nothing was to move"
    if not settled:
        raise RefutedError(Finding.SETTLEMENT_DIFFERS, "no answer of the agent says that the cycle is settled")
    _check_finality(editions[-1], settled[0])
    return f"{len(record.settlements)} requests to the agent, its answer signed by {settled[0].sender}"


def _attempts(record: CycleRecord, *triggers: Trigger) -> set[object]:
    """Return the numbers of the attempts that the log tells of by some steps; step 11 checks that they count up."""
    return {
        event.data.get("attempt")
        for event in record.events
        if event.cycle == record.cycle and event.data.get(TRIGGER_MEMBER) in triggers
    }


def nets(result: NettingResult) -> dict[tuple[str, str], int]:
    """Return what a result moves, by participant and currency."""
    return {
        (position.participant, of_currency.currency): int(position.net_minor)
        for of_currency in result.results
        for position in of_currency.positions
        if position.net_minor != "0"
    }


def _check(
    settlement: SignedSettlement, cycle: str, editions: Sequence[Edition], moments: Moments, coordinator: str
) -> AnsweredSettlement | None:
    """Check one request against the edition of the result that it is for, and its answer; return the answer."""
    where = f"settlements.jsonl attempt {settlement.attempt}"
    if settlement.edition > len(editions):
        raise RefutedError(Finding.SETTLEMENT_DIFFERS, f"{where}: no edition {settlement.edition} of the result")
    documents = editions[settlement.edition - 1].documents
    request = _read_request(where, settlement.request, moments.members, coordinator)
    agents = {instruction.settlement_agent for instruction in documents.instructions}
    if (request.sender, request.cycle) != (coordinator, cycle) or agents != {request.receiver}:
        detail = f"{where}: from {request.sender} to {request.receiver} about {request.cycle}"
        raise RefutedError(Finding.SETTLEMENT_DIFFERS, detail)
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
