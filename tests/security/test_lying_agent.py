"""A settlement agent that signs what can't be booked, or answers without end: its bank watches on, and says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from litestar import Litestar, Request, Response, get
from litestar.datastructures import State
from running_banks import RunningBank, running_town, served
from running_coordinator import AGENT, BRAVO
from support import free_port

from compliance.crypto import dsse
from compliance.crypto.keys import SigningKey
from compliance.iso20022 import NOTIFICATION_TYPE
from gateway.coordinator.registry import members
from gateway.federation.http.client import MemberIdentity
from gateway.federation.iso20022 import Notification, notification
from gateway.federation.messages.settlement import SettlementNotification, SettlementNotifications
from participants.audit.fsck import fsck

pytestmark = pytest.mark.asyncio(loop_scope="module")
MOST = 10**18 - 1
WATCHED = "settlement_account"


@dataclass
class LyingAgent:
    """Signs whatever it is told to, about one bank's account."""

    bank: RunningBank
    key: SigningKey
    entries: list[SettlementNotification] = field(default_factory=list)
    asked: int = 0
    page: Callable[[int], SettlementNotifications] | None = None

    def signs(self, amount: int, *, cycle: str | None = None) -> int:
        """Add an entry and return its number."""
        number, now = len(self.entries) + 1, datetime.now(UTC)
        body = notification(
            Notification(
                message_id=f"M{number}",
                created_at=now,
                sender=AGENT,
                participant=BRAVO,
                account=f"{BRAVO}/EUR",
                sequence=number,
                currency="EUR",
                amount=amount,
                reference=f"REF{number}",
                booked_at=now,
                value_date=now.date(),
                settlement=None if cycle is None else f"S{number}",
                cycle=cycle,
            )
        )
        signed = dsse.seal(body, NOTIFICATION_TYPE, self.key)
        self.entries.append(SettlementNotification(id=number, document=body.decode(), signed=signed))
        return number

    def answer(self, after: int) -> SettlementNotifications:
        self.asked += 1
        if self.page is not None:
            return self.page(after)
        some = tuple(entry for entry in self.entries if entry.id > after)[:100]
        return SettlementNotifications(notifications=some, next=some[-1].id if some else after)

    async def until(self, wanted: Callable[[str, list[tuple[str, int]]], bool]) -> None:
        """Look until the bank's condition of its account, and what it finds there, are what is wanted."""
        seen: Any = None
        async with asyncio.timeout(30):
            while True:
                self.bank.node.settlement_account.wake()
                account = await self.bank.get("/settlement-account")
                seen = account["condition"], [(one["fault"], one.get("movement")) for one in account["findings"]]
                if wanted(*seen):
                    return
                await asyncio.sleep(0.1)

    async def kept(self) -> int:
        return len((await self.bank.get("/settlement-account/movements"))["movements"])


@pytest_asyncio.fixture(loop_scope="module")
async def agent(postgres_url: str, tmp_path: Path) -> AsyncIterator[LyingAgent]:
    async with running_town(postgres_url, tmp_path, (BRAVO,)) as town:
        bravo = town.bravo
        one = LyingAgent(bravo, MemberIdentity.made(AGENT, tmp_path / AGENT).sign.within(bravo.node.trust.scheme))

        @get("/notifications")
        async def notifications(request: Request[Any, Any, Any]) -> Response[SettlementNotifications]:
            return Response(one.answer(int(request.query_params["after"])))

        edge = {name: bravo.app.state[name] for name in ("limits", "private")}
        app, port = Litestar([notifications], state=State({**edge, "stopping": asyncio.Event()})), free_port()
        async with served(app, port):
            async with town.coordinator.registry._publishing() as conn:
                await members.set_url(conn, AGENT, f"http://127.0.0.1:{port}")
            one.signs(5_000)
            await one.until(lambda condition, found: condition.startswith("read") and not found)
            yield one


async def test_what_no_account_holds_is_found_and_the_rest_is_booked(agent: LyingAgent) -> None:
    """And what comes after it is read: nobody takes money away unseen."""
    ceiling = 9
    for _ in range(ceiling + 2):
        last = agent.signs(MOST)
    debit = agent.signs(-4_000)
    await agent.until(
        lambda _, found: (
            found[-2:] == [("movement_not_booked", last - 1), ("movement_not_booked", last)]
            and ("movement_debit_unasked", debit) in found
        )
    )
    assert await agent.kept() == debit
    assert await agent.bank.balance(AGENT, kind="nostro") == 5_000 + ceiling * MOST - 4_000
    ready = await agent.bank.get("/health/ready")
    assert (ready["status"], WATCHED in ready["reasons"]) == ("degraded", True)
    # The nostro isn't the account at the agent, and `fsck` says so.
    assert (await fsck(agent.bank.node.database_url, BRAVO))["nostro"].difference is not None


async def test_a_cycle_that_can_be_none_is_booked_once_people_explain_it(agent: LyingAgent) -> None:
    agent.bank.node.settlement_account.late_s = 0.1
    odd = agent.signs(5_000, cycle="THE CYCLE OF LAST WEEK")
    await agent.until(lambda _, found: found == [("movement_not_instructed", odd)])
    path = f"/settlement-account/movements/{odd}/explanation"
    assert (await agent.bank.send("PUT", path, {"reason": "known to our treasury"})).is_success
    agent.signs(700)
    debit = agent.signs(-600)
    await agent.until(lambda _, found: found == [("movement_debit_unasked", debit)])
    await agent.until(lambda condition, _: "not read now" not in condition)
    assert await agent.bank.balance(AGENT, kind="nostro") == 10_100
    check = (await fsck(agent.bank.node.database_url, BRAVO))["nostro"]
    assert check.difference is None


@pytest.mark.parametrize("numbers", [(1,), (3, 2), (2, 2)])
async def test_an_answer_that_does_not_move_on_is_a_faulty_one(agent: LyingAgent, numbers: tuple[int, ...]) -> None:
    """It is asked for once a round, the account isn't taken as read, and what is honest later is read."""
    agent.signs(100)
    agent.signs(200)
    lie = tuple(agent.entries[number - 1] for number in numbers)
    agent.page = lambda after: SettlementNotifications(notifications=lie, next=after + 1)
    await agent.until(lambda condition, _: "not read now: PageFaultyError" in condition)
    ready = await agent.bank.get("/health/ready")
    assert (ready["status"], WATCHED in ready["reasons"]) == ("degraded", True)
    before = agent.asked
    for _ in range(3):
        agent.bank.node.settlement_account.wake()
        await asyncio.sleep(0.3)
    assert agent.asked - before <= 4
    agent.page = None
    await agent.until(lambda condition, found: "not read now" not in condition and not found)
    assert await agent.kept() == 3
