"""Asking the settlement agent: pacs.029 out, pacs.002 back, each under the signature of who says it.

The agent answers the same to the same message id, so a request whose answer was lost is simply sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from http import HTTPStatus
from typing import Protocol

import msgspec

from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.iso20022 import INSUFFICIENT_FUNDS, SETTLEMENT_ANSWER_TYPE
from compliance.statements import CurrencyResult
from gateway.coordinator.cycles.failures import Failure, FailureReason
from gateway.coordinator.registry.members import SettlementAgent
from gateway.federation import iso20022
from gateway.federation.http.client import TIMEOUT_S, FederationClient, RemoteProblem, RemoteUnavailable
from gateway.federation.messages.settlement import SettlementOrder

VERIFIED_A_SECOND = 4 * 2**20
"""So many characters of a result a slow agent reads and verifies in a second. One of 1,000 banks has 84 million."""


@dataclass(frozen=True, slots=True)
class Settled:
    """All movements are posted and final. `reference` is the agent's own."""

    reference: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Nothing is posted for want of funds; asking later may succeed."""

    detail: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """Nothing is posted, and asking the same again is useless. `reason` is for operators."""

    reason: str


Answer = Settled | Shortfall | Rejected


@dataclass(frozen=True, slots=True)
class Reply:
    """What the agent answers and its signed pacs.002; none where nothing moves, and nobody was asked."""

    answer: Answer
    signed: Envelope | None


class NoAnswerError(Exception):
    """It isn't known whether the agent settled: ask again with the same message."""

    def __init__(self, reason: FailureReason, detail: str) -> None:
        super().__init__(detail)
        self.failure = Failure(reason, detail)


class SettlementClient(Protocol):
    """Whatever settles a cycle's movements all or nothing."""

    async def agent(self) -> str:
        """Return the BIC of the settlement agent. Raises NoAnswerError while none is known."""
        ...

    async def settle(self, agent: str, message_id: str, order: SettlementOrder) -> Reply:
        """Send a settlement order to this agent and no other, and return the answer. Raises NoAnswerError."""
        ...


def movements(results: Iterable[CurrencyResult]) -> tuple[iso20022.Movement, ...]:
    """Return the nets of a cycle's results that aren't zero."""
    return tuple(
        iso20022.Movement(position.participant, of_currency.currency, int(position.net_minor))
        for of_currency in results
        for position in of_currency.positions
        if position.net_minor != "0"
    )


def message(
    *,
    message_id: str,
    created_at: datetime,
    coordinator: str,
    agent: str,
    cycle: str,
    value_date: date,
    moving: Iterable[iso20022.Movement],
) -> bytes:
    """Return the pacs.029 that settles a cycle's movements."""
    return iso20022.settlement_request(
        message_id=message_id,
        created_at=created_at,
        sender=coordinator,
        receiver=agent,
        cycle=cycle,
        value_date=value_date,
        movements=tuple(moving),
    )


FindAgent = Callable[[], Awaitable[SettlementAgent | None]]
"""Returns the settlement agent, None while the registry has none."""


class HttpSettlementClient:
    """The settlement agent over HTTP: `POST {url}/settlements`."""

    def __init__(self, client: FederationClient, find: FindAgent) -> None:
        self._client = client
        self._find = find

    async def agent(self) -> str:
        """Return the BIC of the settlement agent. Raises NoAnswerError while none is known."""
        return (await self._active_agent()).bic

    async def _active_agent(self) -> SettlementAgent:
        if (agent := await self._find()) is None:
            raise NoAnswerError(FailureReason.AGENT_INACTIVE, "no settlement agent is active")
        return agent

    async def settle(self, agent: str, message_id: str, order: SettlementOrder) -> Reply:
        """Send a settlement order to this agent and no other, and return the answer. Raises NoAnswerError."""
        active = await self._active_agent()
        if active.bic != agent:
            # The other may have settled already, and this one would do it again.
            detail = f"{agent} was asked to settle, and {active.bic} is active now"
            raise NoAnswerError(FailureReason.AGENT_INACTIVE, detail)
        # The result that is in it names every pair, and may have tens of megabytes.
        content = await asyncio.to_thread(msgspec.json.encode, order)
        try:
            response = await self._client.request(
                "POST",
                f"{active.url.rstrip('/')}/settlements",
                audience=active.bic,
                content=content,
                headers={"Content-Type": "application/json"},
                idempotent=True,
                timeout_s=TIMEOUT_S + len(order.result.payload) / VERIFIED_A_SECOND,
            )
        except RemoteUnavailable as error:
            detail = f"the settlement agent can't be reached: {error}"
            raise NoAnswerError(FailureReason.AGENT_UNREACHABLE, detail) from error
        except RemoteProblem as problem:
            # Whatever it says, it isn't signed: this very message may have been settled.
            detail = f"the settlement agent answers {problem.status} {problem.code}"
            if problem.status == HTTPStatus.NOT_FOUND:
                detail += ": it takes no signed orders, as one of an earlier release"
            raise NoAnswerError(FailureReason.AGENT_UNDECIDED, detail) from problem
        signed = _envelope(response.content)
        return Reply(answer_in(message_id, signed, active, coordinator=self._client.client_id), signed)


def _envelope(data: bytes) -> Envelope:
    try:
        return msgspec.json.decode(data, type=Envelope)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        detail = f"the answer is no envelope: {error}"
        raise NoAnswerError(FailureReason.AGENT_ANSWER_UNSIGNED, detail) from error


def answer_in(message_id: str, signed: Envelope, agent: SettlementAgent, *, coordinator: str) -> Answer:
    """Read the answer to a message that the agent signed. Raises NoAnswerError for what answers nothing."""
    try:
        dsse.require_nothing_free(signed)
        data = dsse.open_(signed, agent.keys, payload_type=SETTLEMENT_ANSWER_TYPE)
    except EvidenceError as error:
        detail = f"the answer isn't signed by {agent.bic}: {error} ({error.reason})"
        raise NoAnswerError(FailureReason.AGENT_ANSWER_UNSIGNED, detail) from error
    try:
        report = iso20022.read_status(data)
    except iso20022.MessageRefused as refused:
        detail = f"the answer can't be read: {refused.reason}"
        raise NoAnswerError(FailureReason.AGENT_UNDECIDED, detail) from refused
    if (report.sender, report.receiver) != (agent.bic, coordinator):
        detail = f"the answer is from {report.sender} to {report.receiver}"
        raise NoAnswerError(FailureReason.AGENT_UNDECIDED, detail)
    if report.original_message_id != message_id:
        detail = f"the answer is to another message, {report.original_message_id}"
        raise NoAnswerError(FailureReason.AGENT_UNDECIDED, detail)
    # read_status made sure that ACSC has a reference and a time, and RJCT a reason.
    if report.status == "ACSC" and report.reference is not None and report.settled_at is not None:
        return Settled(report.reference, report.settled_at)
    if report.status == "PDNG":
        raise NoAnswerError(FailureReason.AGENT_UNDECIDED, "the settlement agent hasn't decided yet")
    detail = f"{report.reason_code}: {report.reason_text or ''}".rstrip(": ")
    return Shortfall(detail) if report.reason_code == INSUFFICIENT_FUNDS else Rejected(detail)
