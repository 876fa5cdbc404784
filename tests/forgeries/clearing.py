"""A scheme with real keys and one honest, finished cycle, for the forgers to start from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

import pytest
from msgspec.structs import replace

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.cycle.checks import Check
from compliance.cycle.limits import Cap, Limits
from compliance.cycle.liquidity import LiquidityRule
from compliance.cycle.result import instructions, net_cycle
from compliance.cycle.states import State, Trigger, follow
from compliance.event_log import LoggedEvent
from compliance.export.archive import pack
from compliance.export.record import (
    FORMAT,
    FORMAT_UNSIGNED,
    MANIFEST,
    MANIFEST_SIGNED,
    MANIFEST_TYPE,
    OPERATORS_FILE,
    CycleRecord,
    Equivocation,
    FileEntry,
    Manifest,
    Proposal,
    SignedSettlement,
    build_export,
)
from compliance.iso20022 import SETTLEMENT_ANSWER_TYPE, SETTLEMENT_REQUEST_TYPE
from compliance.statements import (
    CarriedOver,
    CycleCut,
    Document,
    Flow,
    LaneCut,
    Member,
    NettingResult,
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
from gateway.federation.iso20022 import read_settlement_request, settlement_request, status_report

CYCLE, OTHER_CYCLE = "2026-03-02-01", "2026-03-02-02"
COORDINATOR, AGENT = "CNCDXXC0", "RTGSXXA0"
BANKS = A, B, C, D = "AAAADEFF", "BBBBFRPP", "CCCCNL2A", "DDDDGB2L"
LIQUIDITY = LiquidityRule(mode="optimal", work=10_000)


def rulebook(mode: str = "always", thresholds: dict[str, str] | None = None, version: str = "test") -> bytes:
    """Return the rules that a verifier reads, canonical."""
    approval = {"mode": mode, "thresholds_minor": thresholds or {}}
    return canonical.encode({"version": version, "approval": approval, "liquidity": LIQUIDITY})


RULEBOOK = rulebook()
AT = "2026-03-02T09:00:00.000000Z"
ROOT = "ab" * 32
LIMITS = Limits(caps=(Cap(participant=C, currency="EUR", cap_minor="50000"),))


TO_MATCHED = ((Trigger.CUT_OFF_REACHED, {}), (Trigger.CUTS_CLOSED, {}), (Trigger.ATTESTATION_CLOSED, {}))
TO_FINAL = ((Trigger.INSTRUCTIONS_SIGNED, {}), (Trigger.AGENT_SETTLED, {}), (Trigger.FINALITY_SIGNED, {}))
BY_RULEBOOK = ((Trigger.NETTED, {}), (Trigger.APPROVED, {"by": "rulebook"}))


def approved(result: str, proposal: str = "0190") -> tuple[tuple[Trigger, dict[str, str]], ...]:
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

    def record(self, cycle: str = CYCLE, rulebook: bytes = RULEBOOK) -> CycleRecord:
        """Return the honest record of the cycle."""
        agreed = [
            self.statement(A, B, 10_000, 2_500),
            self.statement(A, C, 0, 90_000, revision=2),
            self.statement(B, C, 700, 0),
            self.statement(B, C, 0, 40, "USD"),
        ]
        agreed = [replace(statement, cycle=cycle) for statement in agreed]
        signed = [self.sign(bank, statement) for statement in agreed for bank in statement.pair]
        # Superseded and broken: the first revision of A and C, and C and D without an end.
        for low, high, amounts in ((A, C, (0, 80_000)), (C, D, (5, 5))):
            ours = replace(self.statement(low, high, *amounts), cycle=cycle)
            theirs = replace(self.statement(low, high, amounts[0], amounts[1] + 1), cycle=cycle)
            signed += [self.sign(low, ours), self.sign(high, theirs)]
        pairs = [(canonical.digest(canonical.encode(statement)), statement) for statement in agreed]
        netting = net_cycle(
            cycle=cycle,
            value_date="2026-03-02",
            rulebook_sha256=canonical.digest(rulebook),
            statements=pairs,
            limits=LIMITS,
            liquidity=LIQUIDITY,
            carried_over=[CarriedOver(pair=(C, D), currency="EUR", reason="break")],
        )
        result = netting.result
        sha256 = canonical.digest(canonical.encode(result))
        instructed = instructions(result, pairs, sha256, AGENT)
        events = self.events(cycle, approved(sha256))
        cuts = [CycleCut(cycle=cycle, receiver=bank, lanes=self.lanes(bank)) for bank in BANKS]
        liar = replace(self.statement(C, D, 6, 6), cycle=cycle)
        return CycleRecord(
            cycle=cycle,
            value_date="2026-03-02",
            state="final",
            rulebook=rulebook,
            trust_lists=tuple(self.sign(COORDINATOR, self.trust_list(version)) for version in (1, 2)),
            events=events,
            cuts=tuple(self.sign(cut.receiver, cut) for cut in cuts),
            statements=tuple(signed),
            equivocations=(Equivocation(participant=D, first=signed[-1], second=self.sign(D, liar)),),
            screenings=tuple(
                self.sign(
                    bank,
                    ScreeningStatement(
                        cycle=cycle,
                        participant=bank,
                        lists=(ScreeningList(name="OFAC SDN", sha256=ROOT, entries=19_249, imported_at=AT),),
                        matcher="names-1",
                        screened=12,
                        hits=1,
                        released=1,
                        rejected=0,
                        pending=0,
                    ),
                )
                for bank in BANKS
            ),
            limits=LIMITS,
            certificates=netting.certificates,
            checks=(Check(name="conservation", verdict="pass", detail="as it should be"),),
            result=self.sign(COORDINATOR, result),
            proposals=(self.proposal(sha256),),
            instructions=tuple(self.sign(COORDINATOR, one) for one in instructed),
            receipts=tuple(self.receipt(one) for one in instructed),
            finality=self.sign(
                COORDINATOR,
                SettlementFinality(
                    cycle=cycle, result=sha256, settlement_agent=AGENT, agent_reference="RTGS-1", settled_at=AT
                ),
            ),
        )

    def settlement(self, result: NettingResult, **changes: Any) -> SignedSettlement:
        """Return what the coordinator asks of the agent, and what that one answers."""
        at = datetime.fromisoformat(AT)
        asked: dict[str, Any] = {
            "message_id": "1",
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
            status="ACSC",
            reference="RTGS-1",
            settled_at=at,
        )
        return SignedSettlement(
            attempt=1,
            request=dsse.seal(message, SETTLEMENT_REQUEST_TYPE, self.keys[COORDINATOR]),
            answer=dsse.seal(answer, SETTLEMENT_ANSWER_TYPE, self.keys[AGENT]),
        )

    def proposal(self, sha256: str) -> Proposal:
        return Proposal(
            id="0190",
            action="approve",
            reason="checked",
            made_by="alice",
            made_at=AT,
            subject_sha256=sha256,
            decision="confirm",
            decided_by="bob",
            decided_at=AT,
        )

    def receipt(self, instruction: SettlementInstruction) -> Envelope:
        sha256 = canonical.digest(canonical.encode(instruction))
        bank = instruction.participant
        return self.sign(bank, Receipt(instruction=instruction.id, participant=bank, sha256=sha256))

    def lanes(self, receiver: str) -> tuple[LaneCut, ...]:
        lanes = {
            A: [(B, "EUR"), (C, "EUR")],
            B: [(A, "EUR"), (C, "USD")],
            C: [(B, "EUR"), (D, "EUR")],
            D: [(C, "EUR")],
        }
        return tuple(LaneCut(sender=sender, currency=currency, last_sequence=3) for sender, currency in lanes[receiver])

    def events(self, cycle: str, decided: Iterable[tuple[Trigger, dict[str, str]]]) -> tuple[LoggedEvent, ...]:
        """Return the log of a cycle that came to its approval by the steps `decided`, and with it the next opening."""
        state = State.OPEN
        told: list[tuple[str, str, dict[str, object]]] = [("cycle.opened", cycle, {})]
        for trigger, data in (*TO_MATCHED, *decided, *TO_FINAL):
            state = follow(state, trigger)
            told.append((f"cycle.{state}", cycle, {"state": state, "happening": trigger, **data}))
        told.insert(2, ("cycle.opened", OTHER_CYCLE if cycle == CYCLE else CYCLE, {}))
        told.insert(4, ("cycle.break", cycle, {"revision": 1}))
        return chained(
            LoggedEvent(id=number, type=kind, at=AT, cycle=of, data=data, audience=None, prev_hash=ROOT)
            for number, (kind, of, data) in enumerate(told, 17)
        )

    def export(self, record: CycleRecord) -> bytes:
        return build_export(record, self.keys[COORDINATOR])


@cache
def scheme() -> Scheme:
    return Scheme()


@cache
def honest() -> CycleRecord:
    return scheme().record()


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
    form = FORMAT if OPERATORS_FILE in named else FORMAT_UNSIGNED
    manifest = canonical.encode(Manifest(format=form, cycle=CYCLE, files=entries))
    key = signer or scheme().keys[COORDINATOR]
    return pack(
        {**named, MANIFEST: manifest, MANIFEST_SIGNED: canonical.encode(dsse.seal(manifest, MANIFEST_TYPE, key))}
    )
