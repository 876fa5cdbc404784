"""The people of the demonstration at their desks: each institution's staff, and the operators of the clearing house.

They speak to the nodes over HTTP as anybody would, with tokens of their own institution's issuer (staff) or of the
coordinator (operators).
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from compliance.keys import SigningKey
from gateway.demo.plan import AccountPlan
from gateway.federation.client import AccessToken, FederationClient, RemoteProblem, RemoteUnavailable
from gateway.federation.identity import issue_access_token
from gateway.federation.settlement import AccountOpening, Funding, FundingReceipt, SettlementAccountView
from participants.rows import PaymentRow

BATCH_PAYMENTS = 1_000
BATCH_ACCOUNTS = 2_000
FUNDING_MAX = 10**15 - 1
TOKEN_LIFETIME_S = 300
PATIENCE_S = 90


class DayFailedError(RuntimeError):
    """The day didn't go as it must: what was expected, and what was found."""


class Outcome(Struct):
    """The answer on one payment or account of a batch."""

    status: str
    id: str = ""
    code: str = ""
    reason: str | None = None


class Outcomes(Struct):
    results: list[Outcome]


def staff_client(url: str, bic: str, token_key: SigningKey, subject: str) -> FederationClient:
    """Return a client for one of an institution's own people, who get their tokens at home."""

    async def source(audience: str) -> AccessToken:
        token = issue_access_token(
            key=token_key,
            issuer=url,
            subject=subject,
            audience=audience,
            client_id=subject,
            role="staff",
            lifetime_s=TOKEN_LIFETIME_S,
        )
        return AccessToken(access_token=token, expires_in=TOKEN_LIFETIME_S)

    return FederationClient(subject, token_key, url, timeout_s=60, token_source=source)


class Desk:
    """One person at one institution. Requests wait while the node is away, and are sent again."""

    def __init__(self, bic: str, url: str, token_key: SigningKey, subject: str) -> None:
        self.bic = bic
        self.url = url
        self._client = staff_client(url, bic, token_key, subject)

    async def close(self) -> None:
        await self._client.close()

    async def ask(self, method: str, path: str, *, json: Any = None, params: dict[str, Any] | None = None) -> bytes:
        """Send a request until it's answered; every request here may safely be sent twice."""
        give_up_at = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = await self._client.request(
                    method, self.url + path, audience=self.bic, json=json, params=params, idempotent=True
                )
            except RemoteUnavailable:
                if time.monotonic() > give_up_at:
                    raise
                await asyncio.sleep(0.3)
            else:
                return answer.content


class BankDesk(Desk):
    """A bank's back office."""

    async def open_accounts(self, accounts: Sequence[AccountPlan]) -> None:
        for start in range(0, len(accounts), BATCH_ACCOUNTS):
            part = accounts[start : start + BATCH_ACCOUNTS]
            body = {
                "accounts": [
                    {
                        "code": account.code,
                        "currency": account.currency,
                        "name": account.name,
                        "opening_balance_minor": str(account.opening_minor),
                    }
                    for account in part
                ]
            }
            await self.ask("POST", "/accounts", json=body)

    async def pay(self, payments: Sequence[PaymentRow], sent: Callable[[int], None]) -> None:
        """Order payments in batches; `sent` is told how many more are in."""
        for start in range(0, len(payments), BATCH_PAYMENTS):
            part = payments[start : start + BATCH_PAYMENTS]
            await self.ask("POST", "/payments/batch", json={"payments": [order(payment) for payment in part]})
            sent(len(part))


class AgentDesk(Desk):
    """The settlement agent's back office."""


def order(payment: PaymentRow) -> dict[str, str]:
    """Return a payment as its bank's customer channel orders it."""
    return {
        "id": payment.id,
        "creditor_agent": payment.creditor_bank,
        "debtor_account": payment.debtor_account,
        "debtor_name": payment.debtor_name,
        "creditor_account": payment.creditor_account,
        "creditor_name": payment.creditor_name,
        "amount_minor": str(payment.amount_minor),
        "currency": payment.currency,
        "remittance": payment.remittance,
    }
