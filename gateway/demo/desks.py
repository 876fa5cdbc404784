"""The people of the demonstration at their desks: each institution's staff, and the operators of the clearing house.

They speak to the nodes over HTTP as anybody would, with tokens of their own institution's issuer (staff) or of the
coordinator (operators and auditors).
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.statements import Act, ActKind
from gateway.demo.plan import AccountPlan
from gateway.federation.http.answers import read_answer
from gateway.federation.http.client import FederationClient, Query, RemoteProblem, RemoteUnavailable
from gateway.federation.identity.deciding import DecidingKey
from gateway.federation.identity.tokens import STAFF_ROLE
from gateway.federation.membership.before import with_before
from gateway.federation.membership.institution import staff_tokens
from gateway.federation.messages.attestation import Breaks
from gateway.federation.messages.cycles import Cycle, CycleProgress, OpenCycle
from gateway.federation.messages.participants import Invitation, InvitationView
from gateway.federation.messages.proposals import Decision, ProposalRequest, ProposalView
from gateway.federation.messages.settlement import AccountOpening, Funding, SettlementAccountView
from participants.api.messages import (
    AccountPage,
    AccountView,
    CycleView,
    LaneView,
    ListImport,
    OrderBatch,
    OrderResults,
    PaymentView,
    SettlementAccountState,
    SettlementFinding,
)
from participants.api.reconciliations import ReconciliationPage
from participants.intake.intake import order_of
from participants.intake.rows import PaymentRow
from participants.ledger.accounts import AccountOutcome
from participants.reconciliation.store import Reconciliation
from participants.roles import Role

T = TypeVar("T")

BATCH_PAYMENTS = 1_000
BATCH_ACCOUNTS = 2_000
FUNDING_MAX = 10**15 - 1
PATIENCE_S = 90
RETRY_S = 0.3


class DayFailedError(RuntimeError):
    """The day didn't go as it must: what was expected, and what was found."""


class RequestRefusedError(DayFailedError):
    """A request that was refused: who refused it, and why."""

    def __init__(self, request: str, problem: RemoteProblem) -> None:
        super().__init__(f"{request} was refused: {problem}")
        self.status = problem.status


class Person:
    """Somebody with a client of their own. Whatever they ask may be asked twice, so it's asked until answered."""

    def __init__(self, audience: str, url: str, client: FederationClient) -> None:
        self.bic = audience
        self.url = url
        self._client = client

    async def close(self) -> None:
        await self._client.close()

    async def ask(self, method: str, path: str, kind: type[T], *, json: Any = None, params: Query | None = None) -> T:
        """Send a request, again and again while the node is away, and decode the answer."""
        return read_answer(await self.ask_raw(method, path, json=json, params=params), kind, peer=self.bic)

    async def ask_raw(self, method: str, path: str, *, json: Any = None, params: Query | None = None) -> bytes:
        give_up_at = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = await self._client.request(
                    method,
                    self.url + path,
                    audience=self.bic,
                    json=json,
                    params=params,
                    idempotent=True,
                    attempts_max=1,
                )
            except RemoteUnavailable:
                if time.monotonic() > give_up_at:
                    raise
            except RemoteProblem as problem:
                if problem.status != 503 or time.monotonic() > give_up_at:
                    raise RequestRefusedError(f"{method} {path} at {self.bic}", problem) from problem
            else:
                return answer.content
            await asyncio.sleep(RETRY_S)


class Staff(Person):
    """One of an institution's own people, who get their tokens at home."""

    def __init__(
        self,
        bic: str,
        url: str,
        token_key: SigningKey,
        subject: str,
        *,
        role: str = STAFF_ROLE,
        timeout_s: float = 60,
    ) -> None:
        tokens = staff_tokens(token_key, issuer=url, subject=subject, role=role)
        super().__init__(bic, url, FederationClient(subject, token_key, url, timeout_s=timeout_s, token_source=tokens))


class BankDesk(Staff):
    """A bank's people: one who orders payments, two who open accounts, and one who keeps the sanctions lists."""

    def __init__(self, bic: str, url: str, token_key: SigningKey, subject: str, *, timeout_s: float = 60) -> None:
        """`subject` orders the payments."""

        def person(name: str, role: Role) -> Staff:
            return Staff(bic, url, token_key, name, role=role, timeout_s=timeout_s)

        super().__init__(bic, url, token_key, subject, role=Role.ORDERS, timeout_s=timeout_s)
        self._openers = [person(name, Role.ACCOUNTS) for name in ("dora", "egon")]
        self._lists = person("fritz", Role.LISTS)

    async def close(self) -> None:
        for person in (*self._openers, self._lists):
            await person.close()
        await super().close()

    async def open_accounts(self, accounts: Sequence[AccountPlan]) -> None:
        """Open accounts: what one person proposes the other confirms, by asking for the same."""
        for start in range(0, len(accounts), BATCH_ACCOUNTS):
            part = [
                {
                    "code": account.code,
                    "currency": account.currency,
                    "name": account.name,
                    "opening_balance_minor": str(account.opening_minor),
                }
                for account in accounts[start : start + BATCH_ACCOUNTS]
            ]
            for person in self._openers:
                outcomes = await person.ask("POST", "/accounts", list[AccountOutcome], json={"accounts": part})
            closed = Counter(outcome.reason for outcome in outcomes if outcome.status in ("refused", "proposed"))
            if closed:
                raise DayFailedError(f"{self.bic} refused to open accounts: {dict(closed)}")

    async def pay(self, payments: Sequence[PaymentRow], sent: Callable[[int], None]) -> None:
        """Order payments in batches; `sent` is told how many more are in. Raises DayFailedError for a refusal."""
        for start in range(0, len(payments), BATCH_PAYMENTS):
            batch = OrderBatch(payments=tuple(map(order_of, payments[start : start + BATCH_PAYMENTS])))
            answer = await self.ask("POST", "/payments/batch", OrderResults, json=batch)
            refused = Counter(outcome.reason for outcome in answer.results if outcome.status == "refused")
            if refused:
                raise DayFailedError(f"{self.bic} refused its customers' payments: {dict(refused)}")
            sent(len(batch.payments))

    async def import_list(self, name: str, path: Path) -> None:
        """Screen against a sanctions list from now on."""
        content = await asyncio.to_thread(path.read_bytes)
        await self._lists.ask_raw("POST", "/screening/lists", json=ListImport(name=name, files={path.name: content}))

    async def give_back(self, payment: PaymentRow) -> None:
        """Return a payment that came in; the id of the return follows from the payment's."""
        number = str(uuid.uuid5(uuid.UUID(payment.id), "return"))
        await self.ask_raw("POST", f"/payments/{payment.id}/return", json={"id": number, "remittance": "returned"})

    async def dispute(self, payment_id: str, reason: str) -> PaymentView:
        return await self.ask("PUT", f"/payments/{payment_id}/dispute", PaymentView, json={"reason": reason})

    async def withdraw_dispute(self, payment_id: str) -> PaymentView:
        return await self.ask("DELETE", f"/payments/{payment_id}/dispute", PaymentView)

    async def comparison(self, cycle: str, counterparty: str, currency: str) -> Reconciliation | None:
        """Return what came of comparing books with another bank after a break, None if that hasn't begun."""
        page = await self.ask("GET", "/reconciliations", ReconciliationPage, params={"counterparty": counterparty})
        of_break = (item.id for item in page.items if (item.cycle, item.currency) == (cycle, currency))
        known = next(of_break, None)
        return None if known is None else await self.ask("GET", f"/reconciliations/{known}", Reconciliation)

    async def payment(self, payment_id: str) -> PaymentView:
        return await self.ask("GET", f"/payments/{payment_id}", PaymentView)

    async def accounts(self, kind: str) -> tuple[AccountView, ...]:
        page = await self._openers[0].ask("GET", "/accounts", AccountPage, params={"kind": kind, "limit": 1000})
        return page.items

    async def lanes(self) -> list[LaneView]:
        return await self.ask("GET", "/lanes", list[LaneView])

    async def cycle(self, cycle: str) -> CycleView:
        return await self.ask("GET", f"/cycles/{cycle}", CycleView)

    async def settlement_findings(self) -> tuple[SettlementFinding, ...]:
        """Return what doesn't agree on the bank's settlement account."""
        return (await self._openers[0].ask("GET", "/settlement-account", SettlementAccountState)).findings

    async def explain(self, movement: int, reason: str) -> None:
        """Say why the bank knows of a movement on its settlement account."""
        path = f"/settlement-account/movements/{movement}/explanation"
        await self._openers[0].ask_raw("PUT", path, json={"reason": reason})


class AgentDesk(Staff):
    """The settlement agent's back office."""

    async def open_account(self, participant: str, currency: str) -> None:
        opening = AccountOpening(participant=participant, currency=currency)
        await self.ask("POST", "/accounts", SettlementAccountView, json=opening)

    async def fund(self, participant: str, currency: str, amount_minor: int) -> None:
        """Move central money to an account, or back when negative, in as many fundings as it takes."""
        sign = 1 if amount_minor > 0 else -1
        remaining = abs(amount_minor)
        while remaining:
            part = min(remaining, FUNDING_MAX)
            funding = Funding(id=str(uuid.uuid4()), currency=currency, amount_minor=str(sign * part))
            await self.ask_raw("POST", f"/accounts/{participant}/funding", json=funding)
            remaining -= part

    async def balances(self, participant: str) -> dict[str, int]:
        accounts = await self.ask("GET", f"/accounts/{participant}", tuple[SettlementAccountView, ...])
        return {account.currency: int(account.balance_minor) for account in accounts}


class Operator(Person):
    """An operator or auditor of the clearing house, let in by a key."""

    def __init__(self, coordinator: str, url: str, name: str, key: SigningKey) -> None:
        super().__init__(coordinator, url, FederationClient(name, key, url, timeout_s=30))
        self.name = name
        self._deciding = DecidingKey(operator=name, coordinator=coordinator, key=key)

    async def invite(self, bic: str, reason: str) -> str:
        """Return the code by which a bank may apply."""
        invitation = Invitation(reason=reason)
        return (await self.ask("POST", f"/participants/{bic}/invitation", InvitationView, json=invitation)).code

    async def propose_act(self, kind: ActKind, subject: str, reason: str, **terms: str) -> str:
        """Propose to change the registry; return the proposal's id."""
        act = await with_before(Act(kind=kind, subject=subject, terms=terms), partial(self.ask, "GET"))
        request = self._deciding.act(act, reason=reason)
        return (await self.ask("POST", "/proposals", ProposalView, json=request)).id

    async def open_cycle(self) -> str:
        """Return the id of the cycle that is open, and open one if there is none."""
        try:
            cycle = await self.ask("GET", "/cycles/current", Cycle)
        except RequestRefusedError as refused:
            if refused.status != 404:
                raise
            cycle = await self.ask("POST", "/cycles", Cycle, json=OpenCycle())
        return cycle.id

    async def cut_off(self, cycle: str) -> None:
        await self.ask("POST", f"/cycles/{cycle}/cut-off", Cycle)

    async def progress(self, cycle: str) -> CycleProgress:
        return await self.ask("GET", f"/cycles/{cycle}/progress", CycleProgress)

    async def breaks(self, cycle: str) -> Breaks:
        return await self.ask("GET", f"/cycles/{cycle}/breaks", Breaks)

    async def result(self, cycle: str) -> Envelope:
        return await self.ask("GET", f"/cycles/{cycle}/result", Envelope)

    async def propose(self, cycle: str, request: ProposalRequest) -> ProposalView:
        """Sign what is to be proposed, over the result that the cycle has now, and propose it."""
        now = await self.ask("GET", f"/cycles/{cycle}", Cycle)
        signed = self._deciding.proposal(
            request.action, cycle, result=now.result, reason=request.reason, participants=request.participants
        )
        return await self.ask("POST", f"/cycles/{cycle}/proposals", ProposalView, json=signed)

    async def decide(self, proposal: str, decision: Decision) -> None:
        """Sign a decision over what the proposal shows, and send it."""
        shown = await self.ask("GET", f"/proposals/{proposal}", ProposalView)
        signed = self._deciding.decision(shown, decision.decision, reason=decision.reason)
        await self.ask_raw("POST", f"/proposals/{proposal}/decision", json=signed)

    async def export(self, cycle: str) -> bytes:
        return await self.ask_raw("GET", f"/cycles/{cycle}/export")
