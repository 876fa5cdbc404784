"""A large, honest cycle: many banks, each of which owes each other in several currencies."""

from __future__ import annotations

from itertools import combinations

from attesting import Word, attested
from clearing import AGENT, AT, COORDINATOR, CYCLE, LIQUIDITY, RULEBOOK, Scheme, approved
from msgspec.structs import replace

from compliance.crypto import canonical
from compliance.crypto.keys import SigningKey
from compliance.cycle import checks
from compliance.cycle.limits import Limits
from compliance.cycle.positions import of_statement
from compliance.cycle.result import instructions, net_cycle
from compliance.event_log import LoggedEvent
from compliance.export.record import Attendance, CycleRecord
from compliance.statements import CycleCut, LaneCut, PositionStatement, SettlementFinality

CURRENCIES = ("EUR", "USD")


def crowded_export(banks: int) -> tuple[Scheme, bytes]:
    """Return the scheme and the signed export of a final cycle between so many banks."""
    names = sorted(f"B{chr(65 + n // 26)}{chr(65 + n % 26)}KDEFF" for n in range(banks))
    crowd = Scheme(keys={bic: SigningKey.generate() for bic in (COORDINATOR, AGENT, *names)})
    statements = [
        crowd.statement(low, high, 1_000 + place, 700, currency)
        for place, (low, high) in enumerate(combinations(names, 2))
        for currency in CURRENCIES
    ]
    pairs = [(canonical.digest(canonical.encode(statement)), of_statement(statement)) for statement in statements]
    netting = net_cycle(
        cycle=CYCLE,
        value_date="2026-03-02",
        rulebook_sha256=canonical.digest(RULEBOOK),
        statements=pairs,
        limits=Limits(),
        liquidity=LIQUIDITY,
        carried_over=[],
    )
    result, sha256 = netting.result, canonical.digest(canonical.encode(netting.result))
    instructed = instructions(result, pairs, sha256, AGENT)
    own: dict[str, list[PositionStatement]] = {bank: [] for bank in names}
    for statement in statements:
        for bank in statement.pair:
            own[bank].append(statement)
    screenings = {bank: crowd.screening(bank, screened=10_000) for bank in names}
    record = CycleRecord(
        cycle=CYCLE,
        value_date="2026-03-02",
        state="final",
        rulebook=RULEBOOK,
        trust_lists=(crowd.sign(COORDINATOR, crowd.trust_list(1)),),
        events=(),
        cuts=tuple(crowd.sign(bank, _cut(bank, names)) for bank in names),
        **attested(crowd.sign, CYCLE, [Word(bank, own[bank], screenings[bank]) for bank in names]),
        certificates=netting.certificates,
        checks=_checks(crowd, names, netting.result, pairs, screenings),
        result=crowd.sign(COORDINATOR, result),
        operators=(crowd.sign(COORDINATOR, crowd.operators()),),
        proposals=(crowd.proposal(sha256),),
        settlements=(crowd.settlement(result),),
        instructions=tuple(crowd.sign(COORDINATOR, one) for one in instructed),
        receipts=tuple(crowd.receipt(one) for one in instructed),
        finality=crowd.sign(
            COORDINATOR,
            SettlementFinality(
                cycle=CYCLE,
                result=sha256,
                settlement_agent=AGENT,
                agent_reference="RTGS-1",
                settled_at="2026-03-02T09:05:01.000000Z",
            ),
        ),
        participants=tuple(
            Attendance(
                participant=bank,
                cut_at=AT,
                attested_at=AT,
                screening=canonical.digest(canonical.encode(screenings[bank])),
            )
            for bank in names
        ),
    )
    return crowd, crowd.export(replace(record, events=_events(crowd, record, names, sha256, len(statements))))


def _cut(receiver: str, names: list[str]) -> CycleCut:
    lanes = tuple(
        LaneCut(sender=sender, currency=currency, last_sequence=3)
        for sender in names
        if sender != receiver
        for currency in CURRENCIES
    )
    return CycleCut(cycle=CYCLE, receiver=receiver, lanes=lanes)


def _checks(crowd: Scheme, names: list[str], result, pairs, screenings):  # type: ignore[no-untyped-def]
    ran = crowd.checks(result, pairs, screenings, Limits())
    complete = checks.completeness(participants=names, cuts=names, attested=names, result=result, severity="warn")
    return tuple(complete if check.name == "completeness" else check for check in ran)


def _events(crowd: Scheme, record: CycleRecord, names: list[str], sha256: str, agreed: int) -> tuple[LoggedEvent, ...]:
    """Tell the log of the small cycle of the large one."""
    from clearing import chained

    events = [
        event
        for event in crowd.events(record, approved(sha256))
        if event.type not in ("cycle.break", "cycle.equivocation")
    ]
    said = {"cycle.cut_off": {"participants": names}, "cycle.matched": {"agreed": agreed}}
    return chained(
        replace(event, id=17 + place, data={**event.data, **said.get(event.type, {})})
        for place, event in enumerate(events)
    )
