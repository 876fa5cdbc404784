"""Cuts and statements held against each other: what both banks of every pair signed, and that no pair is left out.

Step 6 of `compliance.verifier.verify`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import msgspec

from compliance.cycle.carry_over import BY_NETTING
from compliance.cycle.contests import Contest, contests_in, standing
from compliance.cycle.cuts import Bounds, Lane, bounds_of, misfit
from compliance.cycle.matching import Attested as Signed
from compliance.cycle.matching import Match, PairKey, carry_reason, match
from compliance.cycle.positions import statement_of
from compliance.cycle.states import State, Trigger, event_type
from compliance.export.record import FORMAT, FORMAT_2, CycleRecord
from compliance.statements import CarryReason
from compliance.trust import Signers
from compliance.verifier.attestations import Stated, judge
from compliance.verifier.documents import Documents, SettledBefore
from compliance.verifier.findings import Finding, RefutedError, instant
from compliance.verifier.log import Log, active_in
from compliance.verifier.rules import Rules

PAYMENT_MAX = 10**15 - 1
"""Minor units of one payment, as `compliance.statements.PaymentAmount` has it."""

LanesCut = tuple[int | None, int | None]
"""What the cuts say of a pair's two lanes, pair[0]→pair[1] first; None where the receiver delivered none."""

Agreed = Mapping[PairKey, Stated]
"""What both banks of a pair signed alike."""


@dataclass(frozen=True)
class Matched:
    """What both banks of each pair signed, and what nobody signed for although cuts name their lanes."""

    agreed: Agreed
    matches: Mapping[PairKey, Match]
    contested: frozenset[PairKey]
    lanes: Mapping[PairKey, LanesCut]
    """The pairs of which a cut takes in payments."""
    settled: frozenset[PairKey]
    """Pairs of which both banks signed in an earlier cycle all that the cuts of this one take in."""
    settled_in: tuple[str, ...] = ()
    """Those cycles."""


def match_documents(record: CycleRecord, documents: Documents, log: Log, signers: Signers, rules: Rules) -> Matched:
    """Check that cuts and statements are of this cycle's participants and fit each other; compare what banks signed."""
    bounds = bounds_of(documents.cuts.values())
    _check_cuts(documents, log, signers, rules)
    stated = documents.attested.stated
    _check_stated(stated, documents, log, bounds, rules)
    if record.format == FORMAT:
        stated, contradicted = judge(documents.attested, rules.revisions_max)
        proven = {accusation.participant for accusation in record.equivocations if accusation.proven is not None}
        if unaccused := contradicted - proven:
            detail = f"{min(unaccused)} stated two things for one pair and revision, of which nothing convicts it"
            raise RefutedError(Finding.SIGNED_TWICE, detail)
    else:
        _check_revisions(stated, rules)
    matches = _matches(stated)
    by_digest = {of.sha256: of for of in stated}
    agreed = {key: by_digest[outcome.sha256] for key, outcome in matches.items() if outcome.sha256 is not None}
    lanes = _lanes_of_pairs(bounds)
    return Matched(
        agreed=agreed,
        matches=matches,
        contested=_contested(record, documents, bounds, stated),
        lanes=lanes,
        settled=_settled_before(documents, lanes, _opened_later(record, log)),
        settled_in=tuple(sorted({of.cycle for of in documents.settled})),
    )


def _matches(stated: Sequence[Stated]) -> dict[PairKey, Match]:
    """Compare what was stated, pair by pair; positions stand in the order of pairs."""
    matches: dict[PairKey, Match] = {}
    for key, group in groupby(stated, lambda of: of.position.key):
        rows = list(group)
        if len(rows) == 1 and len(rows[0].signers) == 2:
            matches[key] = Match(key, "agreed", rows[0].position.revision, sha256=rows[0].sha256)
        else:
            matches |= match(_signed(rows))
    return matches


def _signed(rows: Iterable[Stated]) -> list[Signed]:
    return [Signed(of.position.key, bank, of.position.revision, of.sha256) for of in rows for bank in of.signers]


def _check_cuts(documents: Documents, log: Log, signers: Signers, rules: Rules) -> None:
    taken_in = log.taken_in(rules)
    for bank, cut in documents.cuts.items():
        if bank not in log.participants:
            raise RefutedError(Finding.DOCUMENT_OUT_OF_PLACE, f"a cut of {bank}, which doesn't take part")
        order = [(lane.sender, lane.currency) for lane in cut.lanes]
        if order != sorted(set(order)):
            raise RefutedError(Finding.CUT_CONTRADICTED, f"the cut of {bank}: lanes out of order, or one named twice")
        for lane in cut.lanes:
            if lane.sender == bank or signers.kind(lane.sender) != "participant":
                raise RefutedError(Finding.CUT_CONTRADICTED, f"the cut of {bank} names {lane.sender} as a sender")
            if lane.currency not in taken_in:
                raise RefutedError(Finding.CUT_CONTRADICTED, f"the cut of {bank}: {lane.currency} isn't in this cycle")


def _check_stated(stated: Iterable[Stated], documents: Documents, log: Log, bounds: Bounds, rules: Rules) -> None:
    """Check of every position what the coordinator has to check before it takes one in."""
    beginnings: dict[Lane, int] = {}
    participants, taken_in = log.participants, log.taken_in(rules)
    for p, _, signers, _ in stated:
        if p.low not in participants or p.high not in participants or p.currency not in taken_in:
            detail = f"the statement of {signers[0]} for {_pair(p.key)}: not of two participants of this cycle"
            raise RefutedError(Finding.DOCUMENT_OUT_OF_PLACE, detail)
        for bank in signers:
            if bank not in documents.cuts:
                detail = f"the statement of {bank} for {_pair(p.key)}: it delivered no cut"
                raise RefutedError(Finding.DOCUMENT_OUT_OF_PLACE, detail)
        if (misfits := misfit(statement_of("", p), bounds)) is not None:
            raise RefutedError(Finding.CUT_CONTRADICTED, misfits)
        for lane, first, count, minor in (
            ((p.low, p.high, p.currency), p.forth_first, p.forth_count, p.forth_minor),
            ((p.high, p.low, p.currency), p.back_first, p.back_count, p.back_minor),
        ):
            if beginnings.setdefault(lane, first) != first:
                detail = f"{' '.join(lane)} begins with {first}, and with {beginnings[lane]}"
                raise RefutedError(Finding.CUT_CONTRADICTED, detail)
            if int(minor) > count * PAYMENT_MAX:
                detail = f"{_pair(p.key)}: {minor} is more than {count} payments can amount to"
                raise RefutedError(Finding.PAIR_NOT_MATCHED, detail)


def _check_revisions(stated: Iterable[Stated], rules: Rules) -> None:
    """Check that of statements that were signed alone, in no order that is known, each revision follows one."""
    revisions: defaultdict[PairKey, defaultdict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for of in stated:
        for bank in of.signers:
            revisions[of.position.key][bank].add(of.position.revision)
    for key, by_bank in revisions.items():
        signed_by_anybody = set().union(*by_bank.values())
        for bank, own in by_bank.items():
            beyond = max(own) > rules.revisions_max
            gap = any(number > 1 and number - 1 not in own and not _by_other(number, by_bank, bank) for number in own)
            if beyond or gap or signed_by_anybody - set(range(1, max(signed_by_anybody) + 1)):
                detail = f"{bank} signed the revisions {sorted(own)} for {_pair(key)}, one of which it couldn't"
                raise RefutedError(Finding.DOCUMENT_OUT_OF_PLACE, detail)


def _by_other(number: int, by_bank: Mapping[str, Collection[int]], bank: str) -> bool:
    return any(number in revisions for other, revisions in by_bank.items() if other != bank)


def _contested(
    record: CycleRecord, documents: Documents, bounds: Bounds, stated: Iterable[Stated]
) -> frozenset[PairKey]:
    """Return the pairs with a lane whose cut is contested still: what banks signed, of which the log tells.

    Of a cycle that was attested before contests were signed, the log alone tells.
    """
    try:
        logged: Collection[Contest] = contests_in(record.events, record.cycle)
    except msgspec.ValidationError as error:
        raise RefutedError(Finding.FORMAT_VIOLATION, f"a contested cut: {error}") from error
    contests = documents.attested.contests if record.format == FORMAT else logged
    if record.format == FORMAT and (unsigned := set(logged) - set(contests)):
        lane = min(contest.lane for contest in unsigned)
        detail = f"the log says that {lane[0]} contests {' '.join(lane)}, which it didn't sign"
        raise RefutedError(Finding.ATTESTATION_DIFFERS, detail)
    keys = {contest.key for contest in contests}
    signed = _signed(of for of in stated if of.position.key in keys) if keys else []
    stands = standing(contests, cuts=bounds.cuts, attested=signed)
    open_ = {contest.lane: contest.key for contest, still in stands.items() if still}
    if untold := open_.keys() - {contest.lane for contest in logged}:
        detail = f"{min(untold)[0]} contests {' '.join(min(untold))}, of which the log doesn't tell"
        raise RefutedError(Finding.ATTESTATION_DIFFERS, detail)
    return frozenset(open_.values())


def _lanes_of_pairs(bounds: Bounds) -> dict[PairKey, LanesCut]:
    lanes: dict[PairKey, LanesCut] = {}
    for sender, receiver, currency in bounds.cuts:
        low, high = min(sender, receiver), max(sender, receiver)
        forth = bounds.cuts.get((low, high, currency), 0) if high in bounds.delivered else None
        back = bounds.cuts.get((high, low, currency), 0) if low in bounds.delivered else None
        if forth or back:
            lanes[currency, low, high] = (forth, back)
    return lanes


def _opened_later(record: CycleRecord, log: Log) -> frozenset[str]:
    """Return the cycles that opened after this one was cut off, as far as its log goes: none of them settled before."""
    cut_off = log.first(Trigger.CUT_OFF_REACHED) or log.own[-1]
    opened = (event for event in record.events if event.type == event_type(State.OPEN) and event.id > cut_off.id)
    return frozenset(event.cycle for event in opened if event.cycle is not None)


def _settled_before(
    documents: Documents, lanes: Mapping[PairKey, LanesCut], later: Collection[str]
) -> frozenset[PairKey]:
    """Check the statements of earlier cycles: each pair's two are alike, and go as far as the cuts of this cycle.

    Of a lane that nobody cut, this cycle takes in nothing, however far it is settled.
    """
    by_pair: defaultdict[PairKey, dict[str, SettledBefore]] = defaultdict(dict)
    for of in documents.settled:
        by_pair[of.position.key][of.signer] = of
    for key, signatures in by_pair.items():
        if signatures.keys() != set(key[1:]) or len({of.sha256 for of in signatures.values()}) != 1:
            detail = f"settled.jsonl: {_pair(key)} isn't signed alike by both banks"
            raise RefutedError(Finding.PAIR_NOT_MATCHED, detail)
        cycle, position = signatures[key[1]].cycle, signatures[key[1]].position
        if cycle in later:
            detail = f"settled.jsonl: {_pair(key)} in {cycle}, which opened after this cycle was cut off"
            raise RefutedError(Finding.DOCUMENT_OUT_OF_PLACE, detail)
        through = (position.forth_last, position.back_last)
        cut = lanes.get(key)
        if cut is None or any(number not in (None, last) for number, last in zip(cut, through, strict=True)):
            detail = f"settled.jsonl: {_pair(key)} was attested through {through}, and is cut at {cut}"
            raise RefutedError(Finding.CUT_CONTRADICTED, detail)
    return frozenset(by_pair)


# --- a result -------------------------------------------------------------------------------------------------


def check_matching(record: CycleRecord, documents: Documents, matched: Matched, log: Log) -> tuple[PairKey, ...]:
    """Check that a result rests on agreed statements and leaves no pair out in silence.

    Returns the pairs that are left out and can't be proven to have had nothing new.
    """
    if documents.result is None:
        return ()
    result, nothing_more = documents.result.document, documents.attested.nothing_more
    included = {(entry.currency, *entry.pair): entry.sha256 for entry in result.statements}
    carried = {(entry.currency, *entry.pair): entry.reason for entry in result.carried_over}
    for key, sha256 in included.items():
        if key not in matched.agreed or matched.agreed[key].sha256 != sha256:
            detail = f"{_pair(key)} is in the result, but both banks didn't sign the statement {sha256}"
            raise RefutedError(Finding.PAIR_NOT_MATCHED, detail)
    for key in matched.matches:
        if key not in included and key not in carried:
            raise RefutedError(Finding.PAIR_LEFT_OUT, f"{_pair(key)} is neither in the result nor carried over")
    for key, reason in carried.items():
        if key not in matched.matches and key not in matched.lanes:
            detail = f"{_pair(key)} is carried over as {reason}, and no cut names a payment between them"
            raise RefutedError(Finding.PAIR_LEFT_OUT, detail)
    _check_reasons(included, carried, matched, documents, log)
    idle = matched.lanes.keys() - included.keys() - carried.keys()
    if moved := matched.settled - idle:
        detail = f"settled.jsonl: {_pair(min(moved))} has payments in this cycle"
        raise RefutedError(Finding.DOCUMENT_OUT_OF_PLACE, detail)
    # Neither bank has anything new there: both signed that they had no more to state.
    said = {key for key in idle - matched.settled - matched.contested if all(map(nothing_more, key[1:]))}
    unproven = tuple(sorted(idle - matched.settled - said))
    if unproven and record.format != FORMAT_2:
        detail = f"cuts take in payments of {_pair(unproven[0])}, which is neither in the result nor carried over"
        raise RefutedError(Finding.PAIR_LEFT_OUT, detail)
    return unproven


def _check_reasons(
    included: Collection[PairKey],
    carried: Mapping[PairKey, CarryReason],
    matched: Matched,
    documents: Documents,
    log: Log,
) -> None:
    """Check that each pair is where the documents, the trust list and the log put it when attestation closed."""
    closing = log.first(Trigger.ATTESTATION_CLOSED)
    if closing is None:
        raise RefutedError(Finding.RESULT_DIFFERS, "a result of a cycle whose attestation never closed")
    actives = [active_in(trust_list) for trust_list in log.in_force(closing)]

    def expected(key: PairKey) -> list[CarryReason | None]:
        of_pair = matched.matches.get(key)
        return [
            carry_reason(key, of_pair, active=active, delivered=documents.cuts, contested=matched.contested)
            for active in actives
        ]

    for key in included:
        if None not in (reasons := expected(key)):
            raise RefutedError(Finding.PAIR_NOT_MATCHED, f"{_pair(key)} is in the result, and should be {reasons[0]}")
    for key, reason in carried.items():
        reasons = expected(key)
        if reason in BY_NETTING and None not in reasons:
            raise RefutedError(Finding.PAIR_NOT_MATCHED, f"{_pair(key)} is carried over as {reason}, but didn't match")
        if reason not in BY_NETTING and reason not in reasons:
            detail = f"{_pair(key)} is carried over as {reason}, yet it is {reasons[-1] or 'matched'}"
            raise RefutedError(Finding.PAIR_LEFT_OUT, detail)


def check_closing(record: CycleRecord, reasons: Collection[CarryReason], log: Log) -> None:
    """Check that no pair was given up before the time that the rulebook gives its banks to attest.

    `reasons` are those of the pairs that the result carries over.
    """
    closing, closed_at = log.first(Trigger.ATTESTATION_CLOSED), log.attestation_closed_at
    if closing is None or closed_at is None or log.cuts_closed is None:
        return
    deadline = instant(log.cuts_closed.deadline_at, "the deadline to attest")
    attested = {of.participant for of in record.participants if of.attested_at is not None}
    missing = {of.participant for of in record.participants if of.cut_at is not None} - attested
    missing &= frozenset.intersection(*map(active_in, log.in_force(closing)))
    given_up = sorted({CarryReason.NOT_ATTESTED, CarryReason.BREAK} & set(reasons))
    if closed_at < deadline and (missing or given_up):
        what = f"{min(missing)} hadn't said all" if missing else f"a pair is carried over as {given_up[0]}"
        raise RefutedError(Finding.CLOSED_EARLY, f"attestation closed at {closed_at}, before {deadline}, and {what}")


def _pair(key: PairKey) -> str:
    return f"{key[0]} {'/'.join(key[1:])}"
