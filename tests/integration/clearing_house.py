"""A clearing house without its HTTP surface, for tests: real database, real keys, a real settlement agent's books."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from compliance.crypto import canonical, dsse, merkle
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.cycle import positions
from compliance.cycle.approval import ApprovalRule
from compliance.cycle.contests import ContestedLane, digest_of
from compliance.cycle.positions import Position
from compliance.cycle.states import State
from compliance.iso20022 import SETTLEMENT_ANSWER_TYPE
from compliance.statements import (
    Attestation,
    CycleCut,
    Flow,
    LaneCut,
    NettingResult,
    PositionStatement,
    Receipt,
    ScreeningList,
    ScreeningStatement,
    SettlementInstruction,
)
from compliance.trust import Anchor
from gateway.agent.authority import Coordinator, Rules, judge, signed_request
from gateway.agent.ledger import Ledger
from gateway.coordinator.cycles.failures import FailureReason
from gateway.coordinator.cycles.service import CycleService
from gateway.coordinator.cycles.settlement import NoAnswerError, Reply, answer_in
from gateway.coordinator.registry.members import SettlementAgent
from gateway.coordinator.registry.registry import Registry
from gateway.coordinator.rulebook import CheckRule, Rulebook, SettlementRule, load
from gateway.federation.http.client import MemberIdentity
from gateway.federation.identity.deciding import DecidingKey
from gateway.federation.membership.documents import Application, OfferedKey, SettlementAccount
from gateway.federation.messages.attestation import AttestationSubmission, AttestationVerdict
from gateway.federation.messages.proposals import ProposalAction, ProposalView
from gateway.federation.messages.settlement import AccountOpening, Funding, SettlementOrder
from gateway.federation.problems import Refusal
from gateway.federation.storage.database import transaction

COORDINATOR, AGENT = "CNCDXXC0", "AGNTXXS0"
ALFA, BETA, GAMA, DELT = "ALFADEFF", "BETAFRPP", "GAMAITRR", "DELTESMM"
BANKS = (ALFA, BETA, GAMA, DELT)
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
NO_RULE = Rules(ApprovalRule(mode="never", thresholds_minor={}))

Lane = tuple[str, str, str]


def rulebook(**changes: object) -> Rulebook:
    """Two currencies, cycles on demand, nobody's approval needed."""
    rules = msgspec.structs.replace(
        load(),
        currencies=("EUR", "JPY"),
        slots=(),
        calendar="every_day",
        settlement_systems={},
        cut_deadline_s=60,
        attestation_deadline_s=300,
        approval=ApprovalRule(mode="never", thresholds_minor={}),
        aggregate_flow=msgspec.structs.replace(load().aggregate_flow, floor_minor={}),
        settlement=SettlementRule(retry_interval_s=30, attempts_max=2),
    )
    return msgspec.structs.replace(rules, **changes)


def severe(**changes: str) -> CheckRule:
    return msgspec.structs.replace(load().checks, **changes)


class Clock:
    """Time that only tests move."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Books:
    """The settlement agent's real books, asked without HTTP in between."""

    def __init__(self, ledger: Ledger, *, coordinator: MemberIdentity, signer: MemberIdentity) -> None:
        self.ledger, self.coordinator, self.signer = ledger, coordinator, signer
        self.asked: list[bytes] = []
        self.now: Callable[[], datetime] = lambda: NOON

    async def agent(self) -> str:
        return AGENT

    async def settle(self, agent: str, message_id: str, order: SettlementOrder) -> Reply:
        """Take the order as the agent does, and the answer as the coordinator does."""
        keys = self.coordinator.sign.verifying_key
        whom = Coordinator(bic=COORDINATOR, active={keys.kid: keys}, known={keys.kid: keys})
        try:
            asked = signed_request(order.request, coordinator=whom, agent=agent)
            self.asked.append(asked.document)
            answer = await self.ledger.answered(asked.request)
            if answer is None:
                ruling = judge(order, asked, coordinator=whom, own=NO_RULE, at=self.now())
                answer = await self.ledger.settle(ruling, msgspec.json.encode(order))
        except Refusal as refused:
            raise NoAnswerError(FailureReason.AGENT_UNDECIDED, refused.reason) from refused
        key = self.signer.sign.verifying_key
        signed = dsse.seal(answer, SETTLEMENT_ANSWER_TYPE, self.signer.sign)
        active = SettlementAgent(bic=agent, url="", keys={key.kid: key})
        return Reply(answer_in(message_id, signed, active, coordinator=COORDINATOR), signed)

    async def open(self, banks: Sequence[str], currencies: Sequence[str], amount: int) -> None:
        for bank in banks:
            for currency in currencies:
                await self.ledger.open_account(AccountOpening(participant=bank, currency=currency), by="test")
                if amount:
                    await self.fund(bank, currency, amount)

    async def fund(self, bank: str, currency: str, amount: int) -> None:
        await self.ledger.fund(bank, Funding(id=str(uuid4()), currency=currency, amount_minor=str(amount)), by="test")

    async def balances(self) -> dict[tuple[str, str], int]:
        return {(one.participant, one.currency): int(one.balance_minor) for one in await self.ledger.accounts()}


@dataclass
class House:
    """The clearing house and, of every bank, its keys and the payments it has exchanged."""

    engine: AsyncEngine
    registry: Registry
    clock: Clock
    books: Books
    signer: MemberIdentity
    rules: Rulebook
    directory: Path
    lanes: dict[Lane, list[int]] = field(default_factory=lambda: defaultdict(list))
    keys: dict[str, SigningKey] = field(default_factory=dict)
    """Of the operators."""
    signed: int = 0

    def service(self, engine: AsyncEngine | None = None, **changes: Any) -> CycleService:
        """Return a new replica of the coordinator; `changes` are its parts that aren't the house's own."""
        parts = {
            "signer": self.signer.sign,
            "rulebook": self.rules,
            "agent": self.books,
            "registry": self.registry,
            "now": self.clock,
            **changes,
        }
        return CycleService(engine or self.engine, bic=COORDINATOR, **parts)

    def identity(self, bank: str) -> MemberIdentity:
        return MemberIdentity.made(bank, self.directory / bank, self.signer.scheme)

    async def admit_agent(self, bic: str = AGENT) -> None:
        await self.admit(bic, kind="agent")

    async def admit(
        self,
        bank: str,
        *,
        caps_minor: dict[str, int] | None = None,
        kind: Literal["participant", "agent"] = "participant",
    ) -> None:
        identity = self.identity(bank)
        application = Application(
            bic=bank,
            name=f"Bank {bank}",
            url=f"http://{bank.lower()}.example",
            keys=(OfferedKey(use="auth", x=identity.auth.x), OfferedKey(use="sign", x=identity.sign.x)),
            settlement=None if kind == "agent" else SettlementAccount(agent=AGENT, account=f"ACC-{bank}"),
        )
        await self.registry.admit(application, kind=kind, caps_minor=caps_minor or {}, by="test", reason="set up")

    # --- what operators do

    async def let_in(self, *names: str) -> None:
        for name in names:
            self.keys[name] = SigningKey.generate()
            await self.registry.add_client(name, "operator", self.keys[name].x, by="test")

    def deciding(self, name: str) -> DecidingKey:
        return DecidingKey(operator=name, coordinator=COORDINATOR, key=self.keys[name], now=self._moment)

    def _moment(self) -> datetime:
        """No two decisions are signed at one moment, though the clock stands still."""
        self.signed += 1
        return self.clock() + timedelta(milliseconds=self.signed)

    async def propose(
        self, service: CycleService, cycle: str, action: ProposalAction, *banks: str, maker: str = "alice"
    ) -> ProposalView:
        result = (await service.views.cycle(cycle)).result
        request = self.deciding(maker).proposal(action, cycle, result=result, reason="looked at", participants=banks)
        return await service.approvals.propose(cycle, request, maker=maker)

    async def answer(
        self,
        service: CycleService,
        proposal: ProposalView,
        decision: Literal["confirm", "reject"] = "confirm",
        *,
        checker: str = "bob",
    ) -> ProposalView:
        signed = self.deciding(checker).decision(proposal, decision, reason="seen, too")
        return await service.approvals.decide(proposal.id, signed, checker=checker)

    async def decide(self, service: CycleService, cycle: str, action: ProposalAction, *banks: str) -> None:
        """Let alice propose and bob confirm."""
        await self.answer(service, await self.propose(service, cycle, action, *banks))

    # --- what banks do

    def pay(self, sender: str, receiver: str, currency: str, *amounts: int) -> None:
        self.lanes[sender, receiver, currency] += amounts

    def cut(self, cycle: str, bank: str) -> Envelope:
        lanes = tuple(
            LaneCut(sender=sender, currency=currency, last_sequence=len(payments))
            for (sender, receiver, currency), payments in sorted(self.lanes.items(), key=lambda i: (i[0][0], i[0][2]))
            if receiver == bank
        )
        return dsse.sign(CycleCut(cycle=cycle, receiver=bank, lanes=lanes), self.identity(bank).sign)

    def statement(
        self, cycle: str, pair: tuple[str, str], currency: str, *, settled: dict[Lane, int] | None = None,
        revision: int = 1, wrong_by: int = 0,
    ) -> PositionStatement:  # fmt: skip
        low, high = sorted(pair)

        def flow(sender: str, receiver: str, wrong: int) -> Flow:
            payments = self.lanes.get((sender, receiver, currency), [])
            first = (settled or {}).get((sender, receiver, currency), 0) + 1
            return Flow(
                sender=sender,
                receiver=receiver,
                first_sequence=first,
                last_sequence=len(payments),
                count=len(payments) - first + 1,
                amount_minor=str(sum(payments[first - 1 :]) + wrong),
                root=merkle.root([merkle.leaf_hash(str(amount).encode()) for amount in payments]).hex(),
            )

        return PositionStatement(
            cycle=cycle,
            currency=currency,
            pair=(low, high),
            revision=revision,
            flows=(flow(low, high, wrong_by), flow(high, low, 0)),
        )

    def screening(self, cycle: str, bank: str, **changes: Any) -> ScreeningStatement:
        imported_at = (self.clock() - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        document = ScreeningStatement(
            cycle=cycle,
            participant=bank,
            lists=(ScreeningList(name="OFAC SDN", sha256="6" * 64, entries=17_000, imported_at=imported_at),),
            matcher="exact-1",
            screened=1_000,
            hits=0,
            released=0,
            rejected=0,
            pending=0,
        )
        return msgspec.structs.replace(document, **changes)

    def attestation(
        self, cycle: str, bank: str, *statements: PositionStatement, screening: ScreeningStatement | None = None,
        complete: bool = False, contested: Sequence[ContestedLane] = (), signer: SigningKey | None = None,
        **changes: Any,
    ) -> AttestationSubmission:  # fmt: skip
        """Sign statements in their order; `changes` are what the signed document says otherwise."""
        rows = sorted(map(positions.of_statement, statements), key=lambda p: p.key)
        return self.attest_rows(
            cycle, bank, rows, screening=screening, complete=complete, contested=contested, signer=signer, **changes
        )

    def attest_rows(
        self, cycle: str, bank: str, rows: Sequence[Position], *, screening: ScreeningStatement | None = None,
        complete: bool = False, contested: Sequence[ContestedLane] = (), signer: SigningKey | None = None,
        **changes: Any,
    ) -> AttestationSubmission:  # fmt: skip
        document = Attestation(
            cycle=cycle,
            participant=bank,
            statements=len(rows),
            root=positions.root_over(positions.digests(cycle, rows)),
            screening=None if screening is None else canonical.digest(canonical.encode(screening)),
            contested=digest_of(contested),
            complete=complete,
        )
        signed = dsse.sign(msgspec.structs.replace(document, **changes), signer or self.identity(bank).sign)
        return AttestationSubmission(
            attestation=signed, positions=tuple(rows), screening=screening, contested=tuple(contested)
        )

    def pairs(self, bank: str) -> list[tuple[tuple[str, str], str]]:
        """Return the pairs and currencies in which a bank has paid or been paid."""
        found = {
            ((min(s, r), max(s, r)), currency)
            for (s, r, currency), payments in self.lanes.items()
            if payments and bank in (s, r)
        }
        return sorted(found)

    def submission(
        self,
        cycle: str,
        bank: str,
        *,
        settled: dict[Lane, int] | None = None,
        wrong_by: dict[tuple[tuple[str, str], str], int] | None = None,
        without: Sequence[str] = (),
        contested: Sequence[ContestedLane] = (),
        **screening: Any,
    ) -> AttestationSubmission:
        """All that a bank has to say; `screening` are changes of that."""
        stated = [
            self.statement(cycle, pair, currency, settled=settled, wrong_by=(wrong_by or {}).get((pair, currency), 0))
            for pair, currency in self.pairs(bank)
            if not set(pair) & set(without)
        ]
        return self.attestation(
            cycle, bank, *stated, screening=self.screening(cycle, bank, **screening), complete=True,
            contested=contested,
        )  # fmt: skip

    async def cut_off(self, service: CycleService, banks: Sequence[str] = BANKS) -> str:
        """Open a cycle if none is, cut it off, and deliver the banks' cuts; return its id."""
        try:
            cycle = (await service.views.current()).id
        except Refusal:
            cycle = (await service.open_on_demand(None, by="alice")).id
        await service.cut_off(cycle)
        for bank in banks:
            await service.cuts.submit(bank, cycle, self.cut(cycle, bank))
        await service.advance(cycle)
        return cycle

    async def attest(
        self, service: CycleService, cycle: str, banks: Sequence[str] = BANKS, *, settled: dict[Lane, int] | None = None
    ) -> dict[str, AttestationVerdict]:
        return {
            bank: await service.attestation.submit_attestation(
                bank, cycle, self.submission(cycle, bank, settled=settled)
            )
            for bank in banks
        }

    def receipt(self, bank: str, instruction: Envelope) -> Envelope:
        payload = instruction.payload_bytes()
        document = msgspec.json.decode(payload, type=SettlementInstruction)
        receipt = Receipt(instruction=document.id, participant=bank, sha256=canonical.digest(payload))
        return dsse.sign(receipt, self.identity(bank).sign)


NewHouse = Callable[..., Coroutine[Any, Any, House]]
"""The fixture `new_house`: a factory of clearing houses with four banks, funded accounts and no payments yet."""


def trade(house: House) -> None:
    """Payments in two currencies between most pairs."""
    house.pay(ALFA, BETA, "EUR", 10_000, 5_000)
    house.pay(BETA, ALFA, "EUR", 4_000)
    house.pay(BETA, GAMA, "EUR", 12_000)
    house.pay(GAMA, ALFA, "EUR", 9_000, 1)
    house.pay(DELT, ALFA, "EUR", 777)
    house.pay(GAMA, DELT, "JPY", 250)
    house.pay(DELT, BETA, "JPY", 300, 1)


async def events_of(house: House, cycle: str) -> list[str]:
    async with transaction(house.engine) as conn:
        rows = await conn.execute(text("SELECT type FROM events WHERE cycle = :cycle ORDER BY id"), {"cycle": cycle})
        return list(rows.scalars())


async def result_of(service: CycleService, cycle: str) -> NettingResult:
    return msgspec.json.decode((await service.views.result(cycle)).payload_bytes(), type=NettingResult)


async def outcome(service: CycleService, cycle: str) -> tuple[bytes, list[bytes]]:
    """The bytes that a cycle comes down to."""
    instructions = await service.delivery.instructions(cycle, None)
    return (await service.views.result(cycle)).payload_bytes(), [one.payload_bytes() for one in instructions]


def reasons(result: NettingResult) -> dict[tuple[str, tuple[str, str]], str]:
    return {(one.currency, one.pair): one.reason for one in result.carried_over}


async def refused(work: Coroutine[Any, Any, Any]) -> str:
    return (await refusal_of(work)).reason


async def refusal_of(work: Coroutine[Any, Any, Any]) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        await work
    return refusal.value


def anchor_of(house: House) -> Anchor:
    return Anchor.of(COORDINATOR, house.signer.sign.verifying_key)


async def until(service: CycleService, cycle: str, state: State) -> None:
    async with asyncio.timeout(20):
        while (await service.views.cycle(cycle)).state is not state:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
