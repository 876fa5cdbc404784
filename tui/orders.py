"""Sends what an operator decided: logged before, sent once, logged after. No screen in here."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from gateway.federation import correlation
from gateway.federation.http.client import RemoteError, RemoteProblem
from gateway.federation.identity.deciding import DecidingKey, NotShownError
from gateway.federation.messages.cycles import RetryCycle
from gateway.federation.messages.proposals import ProposalView
from tui.actions import Action
from tui.api import ConsoleApi, describe
from tui.forms import Answer
from tui.journal import Entry, Journal, timestamp
from tui.text import Tone


@dataclass(frozen=True)
class Order:
    """An action with all that it needs. `cycle` is None to open one, and where the registry is decided on.

    `result` is the one that the form showed.
    """

    action: Action
    answer: Answer
    cycle: str | None = None
    proposal: ProposalView | None = None
    result: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of an order, in words."""

    text: str
    tone: Tone


async def execute(order: Order, *, api: ConsoleApi, deciding: DecidingKey, journal: Journal, subject: str) -> Outcome:
    """Carry out an order under one correlation id. An order that can't be logged isn't sent.

    Without an answer nobody knows whether it took effect: the outcome says so, and the next snapshot shows it.
    """
    correlation_id, label = correlation.begin(), order.action.label
    before = Entry(
        at=timestamp(),
        subject=subject,
        coordinator=api.bic,
        correlation_id=correlation_id,
        action=order.action.id,
        outcome="asked",
        cycle=order.cycle,
        value_date=order.answer.value_date.strip() or None,
        proposal=order.proposal.id if order.proposal else None,
        reason=order.answer.reason.strip() or None,
        participants=order.answer.banks or None,
    )
    try:
        journal.write(before)
    except OSError as error:
        return Outcome(f"{label}: not sent, for the session log can't be written: {error}", Tone.BAD)
    try:
        await _send(order, api, deciding)
    except NotShownError as error:
        outcome = Outcome(f"{label}: not signed, for {error}", Tone.BAD)
        after = _after(before, outcome="refused", detail=str(error))
    except RemoteProblem as problem:
        outcome = Outcome(f"{label} refused · {describe(problem)}", Tone.BAD)
        after = _after(before, outcome="refused", code=problem.code, detail=problem.detail)
    except RemoteError as failure:
        outcome = Outcome(f"{label}: outcome unknown · {describe(failure)}", Tone.BAD)
        after = _after(before, outcome="unknown", detail=describe(failure))
    else:
        what_is = "done" if order.action.proposes is None else "proposed, waits for another operator"
        cycle = order.cycle or ("new cycle" if order.proposal is None else order.proposal.subject)
        outcome = Outcome(f"{label}: {what_is} · {cycle} · correlation id {correlation_id}", Tone.GOOD)
        after = _after(before, outcome="done")
    try:
        journal.write(after)
    except OSError as error:
        return Outcome(f"{outcome.text} · the session log can't be written: {error}", Tone.BAD)
    return outcome


def _after(before: Entry, *, outcome: str, code: str | None = None, detail: str | None = None) -> Entry:
    return msgspec.structs.replace(before, at=timestamp(), outcome=outcome, code=code, detail=detail, reason=None)


async def _send(order: Order, api: ConsoleApi, deciding: DecidingKey) -> None:
    reason, cycle, proposal = order.answer.reason.strip(), order.cycle, order.proposal
    match order.action.id:
        case "open_cycle":
            await api.open_cycle(order.answer.value_date.strip() or None)
        case "cut_off" if cycle is not None:
            await api.cut_off(cycle)
        case "retry" if cycle is not None:
            await api.retry(cycle, RetryCycle(reason=reason))
        case "confirm" | "reject" as decision if proposal is not None:
            await api.decide(proposal.id, deciding.decision(proposal, decision, reason=reason or None))
        case _ if (proposes := order.action.proposes) is not None and cycle is not None:
            request = deciding.proposal(
                proposes.value, cycle, result=order.result, reason=reason, participants=order.answer.banks
            )
            await api.propose(cycle, request)
        case action:
            raise ValueError(f"{action} needs what the order lacks")
