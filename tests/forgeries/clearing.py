"""A scheme with real keys and one honest, finished cycle, for the forgers to start from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from attesting import Word, attested, proven
from msgspec.structs import replace

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.cycle import checks
from compliance.cycle.audience import audience
from compliance.cycle.checks import Check
from compliance.cycle.limits import Cap, Limits
from compliance.cycle.liquidity import LiquidityRule
from compliance.cycle.positions import Position, ProvenStatement, of_statement, statement_of
from compliance.cycle.result import instructions, net_cycle
from compliance.cycle.states import State, Trigger, follow
from compliance.decisions import answer, cycle_act, propose
from compliance.event_log import LoggedEvent
from compliance.export.archive import pack
from compliance.export.manifest import MANIFEST_TYPE, FileEntry, Manifest, build_export
from compliance.export.record import (
    FORMAT,
    FORMAT_2,
    FORMAT_3,
    MANIFEST,
    MANIFEST_SIGNED,
    OPERATORS_FILE,
    POSITIONS_FILE,
    Attendance,
    CycleRecord,
    Equivocation,
    Proposal,
    SettledStatement,
    SignedSettlement,
)
from compliance.iso20022 import SETTLEMENT_ANSWER_TYPE, SETTLEMENT_REQUEST_TYPE, request_id
from compliance.statements import (
    Attestation,
    CarriedOver,
    CycleCut,
    Document,
    Flow,
    LaneCut,
    Member,
    NettingResult,
    OperatorKey,
    OperatorRegister,
    PositionStatement,
    Receipt,
    ScreeningList,
    ScreeningStatement,
    SettlementFinality,
    SettlementInstruction,
    TrustKey,
    TrustList,
)
from compliance.trust import Anchor
from compliance.verifier.verify import STEPS, VerificationError, verify_bytes
from gateway.agent.authority import nets
from gateway.coordinator.cycles.figures import liquidity_figures
from gateway.federation.iso20022 import read_settlement_request, settlement_request, status_report

CYCLE, OTHER_CYCLE = "2026-03-02-01", "2026-03-02-02"
COORDINATOR, AGENT = "CNCDXXC0", "RTGSXXA0"
BANKS = A, B, C, D = "AAAADEFF", "BBBBFRPP", "CCCCNL2A", "DDDDGB2L"
OPERATORS = {name: SigningKey.generate() for name in ("alice", "bob", "carol")}
LIQUIDITY = LiquidityRule(mode="optimal", work=10_000)


def rulebook(mode: str = "always", thresholds: dict[str, str] | None = None, version: str = "test") -> bytes:
    """Return the rules that a verifier reads, canonical."""
    return canonical.encode(
        {
            "version": version,
            "currencies": ["EUR", "USD"],
            "cut_deadline_s": 60,
            "attestation_deadline_s": 300,
            "revisions_max": 10,
            "approval": {"mode": mode, "thresholds_minor": thresholds or {}},
            "screening": {"required": True, "list_age_max_hours": 48},
            "aggregate_flow": {"cycles_min": 5, "factor_percent": 500, "floor_minor": {}, "window_cycles": 20},
            "liquidity": LIQUIDITY,
            "settlement": {"attempts_max": 2, "retry_interval_s": 30},
            "checks": {"aggregate_flow": "warn", "caps": "fail", "completeness": "warn", "screening": "fail"},
        }
    )


RULEBOOK = rulebook()
AT = "2026-03-02T09:00:00.000000Z"
TO_MATCHED = ((Trigger.CUT_OFF_REACHED, {}), (Trigger.CUTS_CLOSED, {}), (Trigger.ATTESTATION_CLOSED, {}))
ANSWERED = (Trigger.REQUEST_REPEATED, Trigger.AGENT_REJECTED, Trigger.AGENT_SHORT_OF_FUNDS)
ROOT = "ab" * 32
LIMITS = Limits(caps=(Cap(participant=C, currency="EUR", cap_minor="50000"),))


DEADLINE_FOR_CUTS, DEADLINE_TO_ATTEST = "2026-03-02T09:01:00.000000Z", "2026-03-02T09:05:00.000000Z"
CLOSED_AT, SETTLED_AT, REFERENCE = "2026-03-02T09:05:00.100000Z", "2026-03-02T09:05:01.000000Z", "RTGS-1"

SHORT = {"status": "RJCT", "reason_code": "AM04", "reason_text": "short"}
"""What the agent answers where somebody lacks the funds."""
Step = tuple[Trigger, dict[str, Any]]
BY_RULEBOOK = ((Trigger.NETTED, {}), (Trigger.APPROVED, {"by": "rulebook"}))
TO_FINAL = ((Trigger.INSTRUCTIONS_SIGNED, {}), (Trigger.AGENT_SETTLED, {}), (Trigger.FINALITY_SIGNED, {}))


def approved(result: str, proposal: str = "0190") -> tuple[Step, ...]:
    """Return the steps of a cycle that was netted and approved by two persons."""
    return ((Trigger.NETTED, {}), (Trigger.APPROVED, {"proposal": proposal, "result": result}))


def chained(events: Iterable[LoggedEvent]) -> tuple[LoggedEvent, ...]:
    """Return events that name each other as predecessors, whatever they named before; the first stays as it is."""
    linked: list[LoggedEvent] = []
    for event in events:
        linked.append(replace(event, prev_hash=linked[-1].hash) if linked else event)
    return tuple(linked)


def generate_keys() -> dict[str, SigningKey]:
    return {bic: SigningKey.generate() for bic in (COORDINATOR, AGENT, *BANKS)}


@dataclass
class Scheme:
    """A coordinator, its settlement agent and four banks with keys, and one finished cycle between them.

    A and B, A and C, B and C match (B and C in USD too); C and D break; C's cap leaves A and C out.
    """

    keys: dict[str, SigningKey] = field(default_factory=generate_keys)

    @property
    def anchor(self) -> Anchor:
        return Anchor.of(COORDINATOR, self.keys[COORDINATOR].verifying_key)

    def sign(self, bic: str, document: Document) -> Envelope:
        return dsse.sign(document, self.keys[bic])

    def trust_list(self, version: int = 1) -> TrustList:
        def member(bic: str) -> Member:
            key = self.keys[bic]
            kind = "coordinator" if bic == COORDINATOR else "agent" if bic == AGENT else "participant"
            return Member(
                bic=bic,
                name=bic,
                kind=kind,  # type: ignore[arg-type]
                status="active",
                url="http://localhost",
                keys=(TrustKey(kid=key.kid, alg="Ed25519", x=key.x, use="sign", status="active"),),
            )

        return TrustList(version=version, issuer="http://localhost", members=tuple(map(member, sorted(self.keys))))

    def statement(
        self, low: str, high: str, forth: int, back: int, currency: str = "EUR", revision: int = 1
    ) -> PositionStatement:
        def flow(sender: str, receiver: str, amount: int) -> Flow:
            payments = 3 if amount else 0
            return Flow(
                sender=sender,
                receiver=receiver,
                first_sequence=1,
                last_sequence=payments,
                count=payments,
                amount_minor=str(amount),
                root=ROOT,
            )

        return PositionStatement(
            cycle=CYCLE,
            currency=currency,
            pair=(low, high),
            revision=revision,
            flows=(flow(low, high, forth), flow(high, low, back)),
        )

    def record(
        self,
        cycle: str = CYCLE,
        rulebook: bytes = RULEBOOK,
        *,
        screened: int = 12,
        broken: bool = True,
        words: list[Word] | None = None,
        carried: Iterable[CarriedOver] = (),
    ) -> CycleRecord:
        """Return the honest record of the cycle; where nothing is `broken`, C and D have nothing to do with each other.

        Each bank says that it screened so many payments. Of banks that said other `words`, more pairs are `carried`.
        """
        left_out = [CarriedOver(pair=(C, D), currency="EUR", reason="break")] if broken else []
        left_out += carried
        waiting = {(of.currency, of.pair) for of in left_out}
        words = words or self.words(cycle, screened=screened, broken=broken)
        agreed = [of for of in self.agreed(cycle) if (of.currency, of.pair) not in waiting]
        pairs = [(canonical.digest(canonical.encode(of)), of_statement(of)) for of in agreed]
        netting = net_cycle(
            cycle=cycle,
            value_date=cycle[:10],
            rulebook_sha256=canonical.digest(rulebook),
            statements=pairs,
            limits=LIMITS,
            liquidity=LIQUIDITY,
            carried_over=left_out,
        )
        result = netting.result
        sha256 = canonical.digest(canonical.encode(result))
        instructed = instructions(result, pairs, sha256, AGENT)
        cuts = [CycleCut(cycle=cycle, receiver=bank, lanes=self.lanes(bank, broken=broken)) for bank in BANKS]
        screenings = {bank: self.screening(bank, cycle, screened) for bank in BANKS}
        lists = (self.trust_list(1), self.trust_list(2))
        record = CycleRecord(
            cycle=cycle,
            value_date=cycle[:10],
            state="final",
            rulebook=rulebook,
            trust_lists=tuple(self.sign(COORDINATOR, trust_list) for trust_list in lists),
            events=(),
            cuts=tuple(self.sign(cut.receiver, cut) for cut in cuts),
            **attested(self.sign, cycle, words),
            equivocations=(self.accusation(cycle, words),) if broken else (),
            limits=LIMITS,
            certificates=netting.certificates,
            checks=self.checks(result, pairs, screenings),
            result=self.sign(COORDINATOR, result),
            operators=(self.sign(COORDINATOR, self.operators()),),
            proposals=(self.proposal(sha256, cycle),),
            settlements=(self.settlement(result),),
            instructions=tuple(self.sign(COORDINATOR, one) for one in instructed),
            receipts=tuple(self.receipt(one) for one in instructed),
            finality=self.sign(
                COORDINATOR,
                SettlementFinality(
                    cycle=cycle, result=sha256, settlement_agent=AGENT, agent_reference=REFERENCE, settled_at=SETTLED_AT
                ),
            ),
            participants=tuple(
                Attendance(
                    participant=bank,
                    cut_at=AT,
                    attested_at=AT,
                    screening=canonical.digest(canonical.encode(screenings[bank])),
                )
                for bank in BANKS
            ),
            settled=tuple(self.settled_before(bank, self.settled()) for bank in (A, D)),
            limit_events=(self.cap_changed(),),
        )
        events = self.events(record, approved(sha256))
        closed = {"agreed": len(agreed), "carried_over": len(left_out)}
        told = (replace(e, data={**e.data, **closed}) if e.type == "cycle.matched" else e for e in events)
        return replace(record, events=chained(told))

    def agreed(self, cycle: str = CYCLE) -> list[PositionStatement]:
        """Return what both banks of a pair state alike."""
        agreed = [
            self.statement(A, B, 10_000, 2_500),
            self.statement(A, C, 0, 90_000, revision=2),
            self.statement(B, C, 700, 0),
            self.statement(B, C, 0, 40, "USD"),
        ]
        return [replace(statement, cycle=cycle) for statement in agreed]

    def words(self, cycle: str = CYCLE, *, screened: int = 12, broken: bool = True) -> list[Word]:
        """Return what the banks attest, one after another.

        Superseded and broken: the first revision of A and C, and C and D without an end. D also states something of
        which the coordinator takes nothing in, and says again that it has no more.
        """
        first: dict[str, list[PositionStatement]] = {bank: [] for bank in BANKS}
        again: dict[str, list[PositionStatement]] = {D: []}
        for statement in self.agreed(cycle):
            for bank in statement.pair:
                (first if statement.revision == 1 else again).setdefault(bank, []).append(statement)
        for low, high, amounts in ((A, C, (0, 80_000)), (C, D, (5, 5)))[: 2 if broken else 1]:
            first[low].append(replace(self.statement(low, high, *amounts), cycle=cycle))
            first[high].append(replace(self.statement(low, high, amounts[0], amounts[1] + 1), cycle=cycle))
        unknown = {D: (replace(self.statement(D, "ZZZZITRR", 1, 1), cycle=cycle),)}
        return [
            *(
                Word(bank, first[bank], self.screening(bank, cycle, screened), unknown=unknown.get(bank, ()))
                for bank in BANKS
            ),
            *(Word(bank, statements) for bank, statements in sorted(again.items())),
        ]

    def accusation(self, cycle: str, words: Iterable[Word]) -> Equivocation:
        """Return what convicts D: it attested another position for C and D before."""
        word = next(word for word in words if word.bank == D)
        [other] = word.statements
        liar = replace(self.statement(C, D, 6, 6), cycle=cycle)
        first, second = (word, other), (Word(D, (liar,)), liar)
        return Equivocation(participant=D, proven=(proven(self.sign, cycle, *first), proven(self.sign, cycle, *second)))

    def screening(self, bank: str, cycle: str = CYCLE, screened: int = 12) -> ScreeningStatement:
        return ScreeningStatement(
            cycle=cycle,
            participant=bank,
            lists=(ScreeningList(name="OFAC SDN", sha256=ROOT, entries=19_249, imported_at=AT),),
            matcher="names-1",
            screened=screened,
            hits=1,
            released=1,
            rejected=0,
            pending=0,
        )

    def settled(self) -> PositionStatement:
        """Return what A and D signed in an earlier cycle: nothing is new between them in this one."""
        return replace(self.statement(A, D, 70, 30), cycle="2026-02-27-01")

    def settled_before(self, bank: str, statement: PositionStatement) -> SettledStatement:
        """Return a statement of an earlier cycle under the bank's attestation of then."""
        word = Word(bank, (statement,))
        return SettledStatement(proven=proven(self.sign, statement.cycle, word, statement))

    def cap_changed(self, minor: str = "50000") -> LoggedEvent:
        data = {"bic": C, "currency": "EUR", "cap_minor": minor}
        return LoggedEvent(id=9, type="cap.changed", at=AT, cycle=None, data=data, audience=(C,), prev_hash=ROOT)

    def checks(
        self,
        result: NettingResult,
        pairs: list[tuple[str, Position]],
        screenings: dict[str, ScreeningStatement],
        limits: Limits = LIMITS,
    ) -> tuple[Check, ...]:
        """Run the checks as the coordinator does."""
        included = {entry.sha256 for entry in result.statements}
        matched = [position for sha256, position in pairs if sha256 in included]
        return (
            checks.conservation(result, matched),
            checks.completeness(participants=BANKS, cuts=BANKS, attested=BANKS, result=result, severity="warn"),
            checks.net_debit_caps(result, limits, severity="fail"),
            checks.bilateral_limits(matched, limits, severity="fail"),
            checks.screening_attested(
                matched,
                screenings,
                cut_off_at=datetime.fromisoformat(AT),
                list_age_max_hours=48,
                required=True,
                severity="fail",
            ),
            checks.aggregate_flow(
                {position.key: 1 for position in matched},
                {},
                cycles_min=5,
                factor_percent=500,
                floor_minor={},
                severity="warn",
            ),
        )

    def settlement(
        self, result: NettingResult, *, attempt: int = 1, answered: dict[str, Any] | None = None, **changes: Any
    ) -> SignedSettlement:
        """Return what the coordinator asks of the agent, and what that one answers: `answered` instead of its yes."""
        at = datetime.fromisoformat(AT)
        asked: dict[str, Any] = {
            "message_id": request_id(result.cycle, attempt),
            "created_at": at,
            "sender": COORDINATOR,
            "receiver": AGENT,
            "cycle": result.cycle,
            "value_date": at.date(),
            "movements": nets(result),
        }
        message = settlement_request(**{**asked, **changes})
        answer = status_report(
            message_id="A1",
            created_at=at,
            request=read_settlement_request(message),
            **(
                answered or {"status": "ACSC", "reference": REFERENCE, "settled_at": datetime.fromisoformat(SETTLED_AT)}
            ),
        )
        return SignedSettlement(
            attempt=attempt,
            request=dsse.seal(message, SETTLEMENT_REQUEST_TYPE, self.keys[COORDINATOR]),
            answer=dsse.seal(answer, SETTLEMENT_ANSWER_TYPE, self.keys[AGENT]),
        )

    def operators(self) -> OperatorRegister:
        return OperatorRegister(
            coordinator=COORDINATOR,
            version=1,
            operators=tuple(
                OperatorKey(name=name, role="operator", kid=key.kid, alg="Ed25519", x=key.x, status="active")
                for name, key in OPERATORS.items()
            ),
        )

    def proposal(self, sha256: str, cycle: str = CYCLE) -> Proposal:
        return signed_by_operators(
            Proposal(
                id="0190",
                action="approve",
                reason="checked",
                made_by="alice",
                made_at=AT,
                subject_sha256=sha256,
                decision="confirm",
                decided_by="bob",
                decided_at=AT,
            ),
            cycle,
        )

    def receipt(self, instruction: SettlementInstruction) -> Envelope:
        sha256 = canonical.digest(canonical.encode(instruction))
        bank = instruction.participant
        return self.sign(bank, Receipt(instruction=instruction.id, participant=bank, sha256=sha256))

    def lanes(self, receiver: str, *, broken: bool = True) -> tuple[LaneCut, ...]:
        lanes = {
            A: [(B, "EUR"), (C, "EUR"), (D, "EUR")],
            B: [(A, "EUR"), (C, "USD")],
            C: [(B, "EUR"), (D, "EUR")],
            D: [(A, "EUR"), (C, "EUR")],
        }
        return tuple(
            LaneCut(sender=sender, currency=currency, last_sequence=3)
            for sender, currency in lanes[receiver]
            if broken or {sender, receiver} != {C, D}
        )

    def events(
        self,
        record: CycleRecord,
        decided: Iterable[Step],
        after: Iterable[Step] = TO_FINAL,
        before: Iterable[Step] = TO_MATCHED,
    ) -> tuple[LoggedEvent, ...]:
        """Return the log of a record's cycle that came to its approval by the steps `decided`, and on by those `after`.

        What an event says of the record it takes from there, unless a step says otherwise.
        """
        cycle, state, asked = record.cycle, State.OPEN, 0
        told: list[tuple[str, str | None, dict[str, Any]]] = [("cycle.opened", cycle, self._opened(record))]
        proposals = {proposal.id: proposal for proposal in record.proposals}
        for trigger, data in (*before, *decided, *after):
            state = follow(state, trigger)
            proposal = proposals.pop(data.get("proposal", ""), None)
            if proposal is not None:
                told += self._decision(cycle, proposal)
            asked += trigger in (Trigger.INSTRUCTIONS_SIGNED, Trigger.REQUEST_REPEATED)
            said = {"state": state, "happening": trigger, **self._said(record, trigger, asked), **data}
            told.append((f"cycle.{state}", cycle, said))
        told.insert(2, ("cycle.opened", OTHER_CYCLE if cycle == CYCLE else CYCLE, {}))
        place = min(4, len(told) - 1)
        told[place:place] = [*published(record.trust_lists), *self._breaks(record)]
        closed = next((place for place, (kind, of, _) in enumerate(told) if (kind, of) == ("cycle.matched", cycle)), 99)
        return chained(
            LoggedEvent(
                id=17 + number,
                type=kind,
                at=AT if number < closed else CLOSED_AT,
                cycle=of,
                data=data,
                audience=audience(kind, data),
                prev_hash=ROOT,
            )
            for number, (kind, of, data) in enumerate(told)
        )

    def _opened(self, record: CycleRecord) -> dict[str, Any]:
        return {
            "state": "open",
            "value_date": record.value_date,
            "currencies": ["EUR", "USD"],
            "rulebook": canonical.digest(record.rulebook),
            "trust_list_version": 1,
        }

    def _decision(self, cycle: str, proposal: Proposal) -> list[tuple[str, str | None, dict[str, Any]]]:
        made = {
            "proposal": proposal.id,
            "action": proposal.action,
            "by": proposal.made_by,
            "reason": proposal.reason,
            "subject_sha256": proposal.subject_sha256,
            **_digest_of(proposal.proposed),
        }
        decided = {
            "proposal": proposal.id,
            "action": proposal.action,
            "decision": proposal.decision,
            "by": proposal.decided_by,
            "reason": proposal.decision_reason,
            **_digest_of(proposal.answered),
        }
        told: list[tuple[str, str | None, dict[str, Any]]] = [("proposal.made", cycle, made)]
        return [*told, ("proposal.decided", cycle, decided)] if proposal.decision else told

    def _breaks(self, record: CycleRecord) -> list[tuple[str, str | None, dict[str, Any]]]:
        if not record.positions:
            return []
        notice = {"revision": 1, "currency": "EUR", "kind": "different"}
        return [
            ("cycle.break", record.cycle, {**notice, "pair": [A, C]}),
            ("cycle.break", record.cycle, {**notice, "pair": [A, C], "resolved": True}),
            *[("cycle.break", record.cycle, {**notice, "pair": [C, D]})] * bool(record.equivocations),
            *(
                (
                    "cycle.equivocation",
                    record.cycle,
                    {
                        "participant": accusation.participant,
                        "first": accusation.digests[0],
                        "second": accusation.digests[1],
                    },
                )
                for accusation in record.equivocations
            ),
        ]

    def _said(self, record: CycleRecord, trigger: Trigger, asked: int) -> dict[str, Any]:
        """Return what the event of a step says of a record."""
        if trigger is Trigger.CUT_OFF_REACHED:
            return {"participants": BANKS, "deadline_at": DEADLINE_FOR_CUTS, "trust_list_version": 1}
        if trigger is Trigger.CUTS_CLOSED:
            return {"absent": [], "deadline_at": DEADLINE_TO_ATTEST}
        if trigger is Trigger.ATTESTATION_CLOSED:
            return {"agreed": 4, "carried_over": int(bool(record.equivocations)), "closed_at": CLOSED_AT}
        if record.result is None:
            return {}
        payload = record.result.payload_bytes()
        result, sha256 = canonical.decode(payload, NettingResult), canonical.digest(payload)
        if trigger in (Trigger.NETTED, Trigger.CHECK_FAILED):
            return {
                "result": sha256,
                "failed": [check.name for check in record.checks if check.verdict == "fail"],
                "warned": [check.name for check in record.checks if check.verdict == "warn"],
                "liquidity": liquidity_figures(result),
            }
        if trigger is Trigger.INSTRUCTIONS_SIGNED:
            return {"result": sha256, "instructions": len(record.instructions), "attempt": asked}
        if trigger is Trigger.AGENT_SETTLED:
            return {"attempt": asked, "reference": REFERENCE, "settled_at": SETTLED_AT}
        if trigger is Trigger.FINALITY_SIGNED:
            return {"result": sha256, "reference": REFERENCE}
        if trigger is Trigger.APPROVED:
            return {"result": sha256}
        return {"attempt": asked} if trigger in ANSWERED else {}

    def export(self, record: CycleRecord) -> bytes:
        return build_export(record, self.keys[COORDINATOR])


def published(lists: Iterable[Envelope]) -> list[tuple[str, str | None, dict[str, Any]]]:
    """Return what the log tells of each list but the first: how it differs from the one before, and that it is out."""
    told: list[tuple[str, str | None, dict[str, Any]]] = []
    decoded = [(canonical.decode(of.payload_bytes(), TrustList), canonical.digest(of.payload_bytes())) for of in lists]
    for (before, _), (then, sha256) in pairwise(decoded):
        former = {member.bic: member for member in before.members}
        for member in then.members:
            known = {key.kid for key in former[member.bic].keys} if member.bic in former else set()
            previous = former[member.bic].status if member.bic in former else None
            if previous != member.status:
                change = {"bic": member.bic, "change": "status", "previous": previous, "status": member.status}
                told.append(("participant.changed", None, change))
            for key in member.keys:
                if key.kid not in known:
                    change = {"bic": member.bic, "change": "key", "use": key.use, "kid": key.kid, "replaces": None}
                    told.append(("participant.changed", None, change))
        told.append(("trust_list.published", None, {"version": then.version, "sha256": sha256}))
    return told


def signed_by_operators(
    proposal: Proposal, cycle: str = CYCLE, *, made_at: str | None = None, decided_at: str | None = None
) -> Proposal:
    """Return a proposal with the signatures of the operators whom it names, at other times than it says if told."""
    act = cycle_act(proposal.action, cycle, result=proposal.subject_sha256, participants=proposal.participants)
    maker = proposal.made_by
    proposed = propose(
        act,
        _operator(maker),
        operator=maker,
        coordinator=COORDINATOR,
        reason=proposal.reason,
        at=made_at or proposal.made_at,
    )
    answered = None
    if proposal.decision is not None and proposal.decided_by is not None:
        checker = proposal.decided_by
        answered = answer(
            act,
            proposed,
            _operator(checker),
            operator=checker,
            coordinator=COORDINATOR,
            confirm=proposal.decision == "confirm",
            reason=proposal.decision_reason,
            at=decided_at or proposal.decided_at or AT,
        )
    return replace(proposal, proposed=proposed, answered=answered)


def _digest_of(decision: Envelope | None) -> dict[str, str]:
    return {} if decision is None else {"signed": canonical.digest(decision.payload_bytes())}


def _operator(name: str) -> SigningKey:
    return OPERATORS.get(name) or SigningKey.generate()


@cache
def scheme() -> Scheme:
    return Scheme()


@cache
def honest() -> CycleRecord:
    return scheme().record()


def in_format_3(record: CycleRecord) -> CycleRecord:
    """Return a record as a cycle has it whose banks signed each statement by itself."""
    sign = scheme().sign

    def signed(proof: ProvenStatement) -> Envelope:
        by = canonical.decode(proof.attestation.payload_bytes(), Attestation).participant
        return sign(by, canonical.decode(proof.statement.encode(), PositionStatement))

    banks = {
        entry.number: canonical.decode(entry.envelope.payload_bytes(), Attestation).participant
        for entry in record.attestations
    }
    return replace(
        record,
        format=FORMAT_3,
        attestations=(),
        positions=(),
        screenings=(),
        statements=tuple(
            sign(bank, statement_of(record.cycle, row.position))
            for row in record.positions
            for bank in dict.fromkeys(banks[number] for number in row.attested)
        ),
        signed_screenings=tuple(sign(of.participant, of) for of in record.screenings),
        settled=tuple(
            SettledStatement(alone=signed(of.proven)) if of.proven is not None else of for of in record.settled
        ),
        equivocations=tuple(
            Equivocation(participant=of.participant, first=signed(of.proven[0]), second=signed(of.proven[1]))
            if of.proven is not None
            else of
            for of in record.equivocations
        ),
    )


def in_format_2(record: CycleRecord) -> CycleRecord:
    """Return a record as releases before wrote it: operators and agent signed nothing, nor does the log say so."""
    unsigned = tuple(replace(proposal, proposed=None, answered=None) for proposal in record.proposals)
    events = chained(
        replace(event, data={name: value for name, value in event.data.items() if name != "signed"})
        for event in record.events
    )
    alone = in_format_3(record)
    return replace(alone, format=FORMAT_2, proposals=unsigned, operators=(), settlements=(), events=events)


@cache
def export() -> bytes:
    return scheme().export(honest())


def refused(data: bytes, anchor: Anchor | None = None) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        verify_bytes(data, anchor or scheme().anchor)
    assert str(caught.value).startswith(f"step {caught.value.step} ({STEPS[caught.value.step - 1]}): ")
    return caught.value


def repacked(files: dict[str, bytes], signer: SigningKey | None = None) -> bytes:
    """Return an archive of these files, signed anew by whoever holds a key."""
    named = {name: content for name, content in files.items() if name not in (MANIFEST, MANIFEST_SIGNED)}
    entries = tuple(
        FileEntry(name=name, sha256=canonical.digest(content), bytes=len(content))
        for name, content in sorted(named.items())
    )
    form = FORMAT if POSITIONS_FILE in named else FORMAT_3 if OPERATORS_FILE in named else FORMAT_2
    manifest = canonical.encode(Manifest(format=form, cycle=CYCLE, files=entries))
    key = signer or scheme().keys[COORDINATOR]
    return pack(
        {**named, MANIFEST: manifest, MANIFEST_SIGNED: canonical.encode(dsse.seal(manifest, MANIFEST_TYPE, key))}
    )
