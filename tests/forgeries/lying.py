"""How a coordinator lies: the honest record with one thing changed, and the rest kept consistent with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Any

from attesting import Word, attested, digest_of, silent
from clearing import (
    AGENT,
    AT,
    BANKS,
    COORDINATOR,
    CYCLE,
    LIMITS,
    OTHER_CYCLE,
    REFERENCE,
    ROOT,
    SHORT,
    TO_FINAL,
    A,
    B,
    C,
    D,
    approved,
    chained,
    honest,
    rulebook,
    scheme,
    signed_by_operators,
)
from msgspec.structs import replace

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.cycle.audience import EVENTS, audience
from compliance.cycle.limits import Cap, Limits
from compliance.cycle.states import Trigger
from compliance.event_log import LoggedEvent
from compliance.export.record import Attendance, CycleRecord, Equivocation, SignedSettlement
from compliance.iso20022 import SETTLEMENT_ANSWER_TYPE
from compliance.statements import (
    CarriedOver,
    CarryReason,
    CycleCut,
    Document,
    NettingResult,
    PositionStatement,
    Receipt,
    SettlementFinality,
    SettlementInstruction,
)

Lie = Callable[[], CycleRecord]


def told(kind: str, nth: int = 0, /, **data: Any) -> CycleRecord:
    """Return the record with an event of a kind saying something else; None takes a member away."""

    def change(event: LoggedEvent) -> LoggedEvent:
        said = {**event.data, **data}
        return replace(event, data={name: value for name, value in said.items() if value is not None})

    return changed_event(kind, change, nth)


def changed_event(kind: str, change: Callable[[LoggedEvent], LoggedEvent], nth: int = 0) -> CycleRecord:
    events = honest().events
    place = [at for at, event in enumerate(events) if event.type == kind and event.cycle != OTHER_CYCLE][nth]
    return replace(honest(), events=chained((*events[:place], change(events[place]), *events[place + 1 :])))


def told_of(said: dict[str, dict[str, Any]]) -> CycleRecord:
    """Return the record with several events saying something else."""
    events = [replace(e, data={**e.data, **said.get(e.type, {})}) for e in honest().events]
    return replace(honest(), events=chained(events))


def with_event(kind: str, data: dict[str, Any], *, at: int = 6, cycle: str | None = CYCLE) -> CycleRecord:
    """Return the record with one more event in its log."""
    events = honest().events
    circle = audience(kind, data) if kind in EVENTS else None
    added = replace(events[at], type=kind, data=data, cycle=cycle, audience=circle)
    return replace(honest(), events=numbered((*events[:at], added, *events[at:])))


def without_event(kind: str, nth: int = 0) -> CycleRecord:
    events = honest().events
    place = [at for at, event in enumerate(events) if event.type == kind and event.cycle != OTHER_CYCLE][nth]
    return replace(honest(), events=numbered((*events[:place], *events[place + 1 :])))


def numbered(events: tuple[LoggedEvent, ...]) -> tuple[LoggedEvent, ...]:
    return chained(replace(event, id=events[0].id + place) for place, event in enumerate(events))


def at_time(kind: str, at: str) -> CycleRecord:
    return changed_event(kind, lambda event: replace(event, at=at))


def without(name: str, of: Callable[[Any], bool], kind: type[Document]) -> CycleRecord:
    """Return the record without the documents of a file that something holds of."""
    kept = [one for one in getattr(honest(), name) if not of(canonical.decode(one.payload_bytes(), kind))]
    return replace(honest(), **{name: tuple(kept)})


def stating(words: Iterable[Word], record: CycleRecord | None = None) -> CycleRecord:
    """Return the record whose banks attest something else."""
    return replace(record or honest(), **attested(scheme().sign, CYCLE, words))


def stating_more(bank: str, *statements: PositionStatement) -> CycleRecord:
    """Return the record with one more attestation of a bank."""
    return stating([*scheme().words(), Word(bank, statements)])


def unstated(*left_out: PositionStatement, of: Collection[str] | None = None) -> CycleRecord:
    """Return the record in which some banks, or all, don't attest some statements."""
    return stating(silent(scheme().words(), *left_out, of=of))


def unopened(*hidden: PositionStatement, of: Collection[str] | None = None) -> CycleRecord:
    """Return the record that calls some statements of some banks, or all, unknown leaves of their attestations."""
    words = scheme().words()
    left = silent(words, *hidden, of=of)
    unknown = ([s for s in word.statements if s not in rest.statements] for word, rest in zip(words, left, strict=True))
    return stating(rest._replace(unknown=(*rest.unknown, *more)) for rest, more in zip(left, unknown, strict=True))


def signed_by(bic: str, document: Document) -> Envelope:
    return scheme().sign(bic, document)


def decoded(envelope: Envelope | None, kind: type[Any]) -> Any:
    assert envelope is not None
    return canonical.decode(envelope.payload_bytes(), kind)


def other_result(record: CycleRecord | None = None, /, **changes: Any) -> CycleRecord:
    """Return the record with another result, of which the log tells as it tells of the honest one."""
    record = record or honest()
    document = replace(decoded(record.result, NettingResult), **changes)
    lied = replace(record, result=signed_by(COORDINATOR, document))
    sha256 = canonical.digest(canonical.encode(document))
    proposals = (replace(one, subject_sha256=sha256) for one in record.proposals)
    lied = replace(lied, proposals=tuple(signed_by_operators(one) for one in proposals))
    return replace(lied, events=scheme().events(lied, approved(sha256)))


def carried(reason: CarryReason, low: str = C, high: str = D) -> CycleRecord:
    result = decoded(honest().result, NettingResult)
    others = [one for one in result.carried_over if one.pair != (low, high)]
    kept = tuple(entry for entry in result.statements if entry.pair != (low, high))
    all_carried = sorted(
        [*others, CarriedOver(pair=(low, high), currency="EUR", reason=reason)], key=lambda one: one.pair
    )
    return other_result(statements=kept, carried_over=tuple(all_carried))


def checks_say(name: str, **changes: Any) -> CycleRecord:
    """Return the record with another verdict on a check; the log tells the same."""
    said = tuple(replace(one, **changes) if one.name == name else one for one in honest().checks)
    return retold(replace(honest(), checks=said))


def retold(record: CycleRecord) -> CycleRecord:
    sha256 = canonical.digest(record.result.payload_bytes()) if record.result else ROOT
    return replace(record, events=scheme().events(record, approved(sha256)))


def attended(bank: str, **changes: Any) -> CycleRecord:
    return replace(
        honest(),
        participants=tuple(
            replace(one, **changes) if one.participant == bank else one for one in honest().participants
        ),
    )


def proposal(**changes: Any) -> CycleRecord:
    return replace(honest(), proposals=(replace(honest().proposals[0], **changes),))


def approval(**changes: Any) -> CycleRecord:
    """Return the record with another proposal, which its operators signed, and of which the log tells too."""
    record = proposal(**changes)
    return retold(replace(record, proposals=tuple(map(signed_by_operators, record.proposals))))


def proposed_of_another_result() -> CycleRecord:
    """An operator proposes to approve what the cycle didn't come to; log and archive tell of it."""
    undecided = {"decision": None, "decided_by": None, "decided_at": None, "answered": None}
    added = signed_by_operators(replace(honest().proposals[0], id="0199", subject_sha256=ROOT, **undecided))
    assert added.proposed is not None
    said = {
        "proposal": "0199",
        "action": added.action,
        "by": added.made_by,
        "reason": added.reason,
        "subject_sha256": ROOT,
        "signed": canonical.digest(added.proposed.payload_bytes()),
    }
    return replace(with_event("proposal.made", said, at=12), proposals=(*honest().proposals, added))


def finality(**changes: Any) -> CycleRecord:
    document = replace(decoded(honest().finality, SettlementFinality), **changes)
    return replace(honest(), finality=signed_by(COORDINATOR, document))


def suspended_from_the_start() -> CycleRecord:
    """B is suspended in every list, and settles."""
    lists = []
    for version in (1, 2):
        members = scheme().trust_list(version).members
        status = tuple(replace(m, status="suspended") if m.bic == B else m for m in members)
        lists.append(signed_by(COORDINATOR, replace(scheme().trust_list(version), members=status)))
    return retold(replace(honest(), trust_lists=tuple(lists)))


def without_bank() -> CycleRecord:
    """Leave D out of the participants, with all that it signed."""
    record = retold(replace(honest(), participants=honest().participants[:3], cuts=honest().cuts[:3]))
    events = record.events
    return replace(
        record,
        events=chained(
            replace(e, data={**e.data, "participants": [A, B, C]}) if e.type == "cycle.cut_off" else e for e in events
        ),
    )


def hidden_lane() -> CycleRecord:
    """Hide both statements of B and C in USD, and net without them; their cut stays."""
    record = unopened(*(of for of in scheme().agreed() if of.currency == "USD"))
    result = decoded(honest().result, NettingResult)
    record = replace(
        record,
        certificates=record.certificates[:1],
        instructions=tuple(one for one in record.instructions if decoded(one, SettlementInstruction).currency == "EUR"),
        receipts=(),
    )
    return other_result(
        record,
        statements=tuple(entry for entry in result.statements if entry.currency == "EUR"),
        results=result.results[:1],
        liquidity=result.liquidity[:1],
    )


def without_cut(bank: str) -> CycleRecord:
    return without("cuts", lambda cut: cut.receiver == bank, CycleCut)


def stale_lists() -> CycleRecord:
    """Screenings against lists of last year, and a check that passed even so."""
    old = "2025-03-02T09:00:00.000000Z"
    words = []
    for word in scheme().words():
        if word.screening is not None:
            lists = (replace(word.screening.lists[0], imported_at=old),)
            word = word._replace(screening=replace(word.screening, lists=lists))
        words.append(word)
    screenings = {word.bank: word.screening for word in words if word.screening is not None}
    participants = tuple(
        Attendance(participant=bank, cut_at=AT, attested_at=AT, screening=digest_of(screenings[bank]).hex())
        for bank in BANKS
    )
    return replace(stating(words), participants=participants)


def capped(*caps: Cap, events: tuple[LoggedEvent, ...] | None = None) -> CycleRecord:
    """Keep other caps that bind nobody, so that the netting gives the same."""
    limits = Limits(caps=(*LIMITS.caps, *caps))
    kept = honest().limit_events if events is None else events
    return retold(replace(honest(), limits=limits, limit_events=kept))


def failed_without_release() -> CycleRecord:
    """A check fails, and the cycle goes on as if it hadn't."""
    record = scheme().record(screened=0)
    return retold(record)


def revision_out_of_the_blue() -> CycleRecord:
    return stating_more(A, replace(scheme().statement(A, B, 10_000, 2_500), revision=4))


def of_a_stranger() -> CycleRecord:
    """A statement of a pair with somebody who doesn't take part, signed by the one that does."""
    return stating_more(A, scheme().statement(A, "ZZZZITRR", 10, 0))


def second_receipt() -> CycleRecord:
    receipt = decoded(honest().receipts[0], Receipt)
    other = signed_by(receipt.participant, replace(receipt, sha256=ROOT))
    return replace(honest(), receipts=(*honest().receipts, other))


def free_bytes(name: str) -> CycleRecord:
    """Add a signature that nobody looks at to a document."""
    documents = getattr(honest(), name)
    extra = documents[1].signatures[0]
    noisy = replace(documents[0], signatures=(*documents[0].signatures, replace(extra, keyid="unknown")))
    return replace(honest(), **{name: (noisy, *documents[1:])})


def accusation_without_event() -> CycleRecord:
    return without_event("cycle.equivocation")


def screened_twice() -> CycleRecord:
    """Call a bank that screened again an equivocator."""
    screening = scheme().screening(A)
    accusation = Equivocation(
        participant=A,
        first=signed_by(A, screening),
        second=signed_by(A, replace(screening, screened=13)),
    )
    return retold(replace(honest(), equivocations=(*honest().equivocations, accusation)))


def carried_without_payments() -> CycleRecord:
    result = decoded(honest().result, NettingResult)
    invented = CarriedOver(pair=(B, D), currency="EUR", reason=CarryReason.NOT_ATTESTED)
    return other_result(carried_over=tuple(sorted((*result.carried_over, invented), key=lambda one: one.pair)))


def not_settled_before(**changes: Any) -> CycleRecord:
    statement = replace(scheme().settled(), **changes)
    return replace(honest(), settled=tuple(scheme().settled_before(bank, statement) for bank in (A, D)))


def non_canonical_rulebook() -> CycleRecord:
    """A rulebook with a space in it, whose digest everything names."""
    spaced = rulebook().replace(b'"always"', b' "always"')
    record = replace(honest(), rulebook=spaced)
    return other_result(record, rulebook=canonical.digest(spaced))


def instructed_twice() -> CycleRecord:
    """An attempt of which the number is skipped."""
    return told("cycle.instructed", attempt=2)


def retries() -> CycleRecord:
    """A cycle given up after one attempt, where the rulebook asks for two."""
    sha256 = canonical.digest(honest().result.payload_bytes())  # type: ignore[union-attr]
    short = scheme().settlement(decoded(honest().result, NettingResult), answered=SHORT)
    record = replace(honest(), state="abandoned", finality=None, settlements=(short,))
    after = (TO_FINAL[0], (Trigger.AGENT_SHORT_OF_FUNDS, {}), (Trigger.RETRIES_USED_UP, {"attempts": 1}))
    return replace(record, events=scheme().events(record, approved(sha256), after))


def honest_liquidity() -> list[dict[str, Any]]:
    return next(e.data["liquidity"] for e in honest().events if e.type == "cycle.netted")


def index_of(kind: str) -> int:
    return next(place for place, event in enumerate(honest().events) if event.type == kind)


def retold_settled(at: str) -> CycleRecord:
    """Say everywhere that the agent settled at some time; the agent says so too."""
    events = [
        replace(e, data={**e.data, "settled_at": at}) if e.type == "cycle.settled" else e for e in honest().events
    ]
    answered = {"status": "ACSC", "reference": REFERENCE, "settled_at": datetime.fromisoformat(at)}
    settlement = scheme().settlement(decoded(honest().result, NettingResult), answered=answered)
    return replace(finality(settled_at=at), events=chained(events), settlements=(settlement,))


def other_answer(old: str, new: str) -> SignedSettlement:
    """Return the settlement with another text in the agent's answer, which the agent signed."""
    genuine = honest().settlements[0]
    assert genuine.answer is not None
    payload = genuine.answer.payload_bytes()
    assert old.encode() in payload
    changed = payload.replace(old.encode(), new.encode())
    return replace(genuine, answer=dsse.seal(changed, SETTLEMENT_ANSWER_TYPE, scheme().keys[AGENT]))
