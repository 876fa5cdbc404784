"""Asking the settlement agent: pacs.029 out, pacs.002 back.

The agent answers the same to the same message id, so a request whose answer was lost is simply sent again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from compliance.statements import NettingResult
from gateway.coordinator.cycles.failures import Failure, FailureReason
from gateway.federation import iso20022
from gateway.federation.http.client import FederationClient, RemoteProblem, RemoteUnavailable

INSUFFICIENT_FUNDS = "AM04"
"""ISO 20022 external status reason: the agent's accounts don't cover the debits."""


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

    async def settle(self, agent: str, message_id: str, message: bytes) -> Answer:
        """Send a settlement request to this agent and no other, and return the answer. Raises NoAnswerError."""
        ...


def movements(result: NettingResult) -> tuple[iso20022.Movement, ...]:
    """Return the nets of a result that aren't zero."""
    return tuple(
        iso20022.Movement(position.participant, of_currency.currency, int(position.net_minor))
        for of_currency in result.results
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


FindAgent = Callable[[], Awaitable[tuple[str, str] | None]]
"""Returns BIC and base URL of the settlement agent, None while the registry has none."""


class HttpSettlementClient:
    """The settlement agent over HTTP: `POST {url}/messages`."""

    def __init__(self, client: FederationClient, find: FindAgent) -> None:
        self._client = client
        self._find = find

    async def agent(self) -> str:
        """Return the BIC of the settlement agent. Raises NoAnswerError while none is known."""
        return (await self._active_agent())[0]

    async def _active_agent(self) -> tuple[str, str]:
        if (agent := await self._find()) is None:
            raise NoAnswerError(FailureReason.AGENT_INACTIVE, "no settlement agent is active")
        return agent

    async def settle(self, agent: str, message_id: str, message: bytes) -> Answer:
        """Send a settlement request to this agent and no other, and return the answer. Raises NoAnswerError."""
        bic, url = await self._active_agent()
        if bic != agent:
            # The other may have settled already, and this one would do it again.
            raise NoAnswerError(FailureReason.AGENT_INACTIVE, f"{agent} was asked to settle, and {bic} is active now")
        try:
            response = await self._client.request(
                "POST",
                f"{url.rstrip('/')}/messages",
                audience=bic,
                content=message,
                headers={"Content-Type": iso20022.MEDIA_TYPE, "Accept": iso20022.MEDIA_TYPE},
                idempotent=True,
            )
        except RemoteUnavailable as error:
            detail = f"the settlement agent can't be reached: {error}"
            raise NoAnswerError(FailureReason.AGENT_UNREACHABLE, detail) from error
        except RemoteProblem as problem:
            # 401, 403, 408 and 429 say nothing about the message itself.
            if problem.status in (400, 409, 413, 415, 422):
                return Rejected(problem.code)
            detail = f"the settlement agent answers {problem.status}"
            raise NoAnswerError(FailureReason.AGENT_UNDECIDED, detail) from problem
        return answer_in(message_id, response.content)


def answer_in(message_id: str, data: bytes) -> Answer:
    """Read the agent's answer to a message. Raises NoAnswerError for what answers nothing."""
    try:
        report = iso20022.read_status(data)
    except iso20022.MessageRefused as refused:
        detail = f"the answer can't be read: {refused.reason}"
        raise NoAnswerError(FailureReason.AGENT_UNDECIDED, detail) from refused
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
