"""Judging what banks submit: what is new, what was said before, what contradicts it, and the verdicts. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from compliance.cycle.contests import Contest, unsupported
from compliance.cycle.cuts import Bounds, Lane
from compliance.cycle.matching import Attested, Match, PairKey, Placement, placement_of
from gateway.coordinator.cycles.reasons import CycleReason
from gateway.coordinator.cycles.submission import ReadScreening, ReadStatement, check_sequences
from gateway.federation.messages.attestation import RefusedPart, StatementVerdict, StatementVerdicts
from gateway.federation.problems import Refusal

SCREENINGS_MAX = 32
"""Different screening statements of one bank in one cycle. It signs a new one whenever it attests further pairs."""


@dataclass(kw_only=True)
class Submitted:
    """One bank's submission on its way to an answer. What is refused leaves `statements` and `contests`."""

    WEIGHT_MAX: ClassVar[int] = 1_536
    """Of what is judged and stored at once: some tens of milliseconds, while which nobody else is answered."""

    bank: str
    statements: list[ReadStatement]
    screening: ReadScreening | None
    complete: bool
    contests: list[Contest] = field(default_factory=list)
    fresh: list[ReadStatement] = field(default_factory=list)
    equivocal: ReadStatement | None = None
    """The first statement that contradicts one that the bank signed before."""
    refused: list[RefusedPart] = field(default_factory=list)
    first_refusal: Refusal | None = None

    def refuse(self, refusal: Refusal, named: PairKey | None = None) -> None:
        """Leave a part out, for the refusal's reason; `named` is the pair that it is about."""
        self.first_refusal = self.first_refusal or refusal
        other = None if named is None else named[2] if named[1] == self.bank else named[1]
        self.refused.append(
            RefusedPart(
                pointer=refusal.pointer or "",
                reason=str(refusal.reason),
                detail=refusal.detail,
                counterparty=other,
                currency=None if named is None else named[0],
            )
        )

    @property
    def refusal(self) -> Refusal | None:
        """The first refusal, if nothing is left that the bank says about a pair: then nothing is taken in."""
        return None if self.statements or self.contests else self.first_refusal

    def weight(self) -> int:
        """Return what it costs to judge and store, in statements."""
        return max(48, len(self.statements))


def judge_all(read: Iterable[Submitted], attested: list[Attested], bounds: Bounds, revisions_max: int) -> None:
    """Judge submissions one after another, statement by statement; what is new joins `attested`."""
    of_pair: defaultdict[PairKey, list[Attested]] = defaultdict(list)
    for earlier in attested:
        of_pair[earlier.key].append(earlier)
    for submitted in read:
        before = [earlier for key in {s.key for s in submitted.statements} for earlier in of_pair[key]]
        _judge(submitted, before, bounds, revisions_max)
        _judge_contests(submitted, bounds)
        for statement in submitted.fresh:
            new = Attested(statement.key, submitted.bank, statement.document.revision, statement.sha256)
            of_pair[new.key].append(new)
            attested.append(new)


def _judge(submitted: Submitted, before: Sequence[Attested], bounds: Bounds, revisions_max: int) -> None:
    """Find the statements that are new, and those that are to be refused: each by itself."""
    signed_by: dict[tuple[PairKey, bool], dict[int, str]] = {}
    for earlier in before:
        signed_by.setdefault((earlier.key, earlier.participant == submitted.bank), {})[earlier.revision] = (
            earlier.sha256
        )
    kept: list[ReadStatement] = []
    for statement in submitted.statements:
        own = signed_by.setdefault((statement.key, True), {})
        theirs = signed_by.get((statement.key, False), {})
        revision, name = statement.document.revision, " ".join(statement.key)
        placement = placement_of(
            revision=revision, sha256=statement.sha256, own=own, theirs=theirs, revisions_max=revisions_max
        )
        try:
            if placement is Placement.EQUIVOCATION:
                submitted.equivocal = submitted.equivocal or statement  # More of them prove no more.
                detail = f"{submitted.bank} signed another revision {revision} for {name} before"
                raise Refusal(CycleReason.EQUIVOCATION, detail, pointer=statement.pointer)
            if placement is Placement.REVISION_REFUSED:
                detail = f"{name}: revision {revision} doesn't follow, or nothing is left to mend"
                raise Refusal(CycleReason.REVISION_REFUSED, detail, pointer=statement.pointer)
            if placement is Placement.NEW:
                check_sequences(statement, bounds)
                own[revision] = statement.sha256
                submitted.fresh.append(statement)
        except Refusal as refused:
            submitted.refuse(refused, statement.key)
            continue
        kept.append(statement)
    submitted.statements = kept


def _judge_contests(submitted: Submitted, bounds: Bounds) -> None:
    """Keep the lanes that a bank contests which were cut where it says."""
    stated = {statement.key for statement in submitted.statements}
    lanes: set[Lane] = set()
    kept: list[Contest] = []
    for number, contest in enumerate(submitted.contests):
        pointer = f"/contested/{number}"
        if contest.lane in lanes or contest.key in stated:
            detail = f"{' '.join(contest.lane)}: contested twice, or contested and attested at once"
            submitted.refuse(Refusal(CycleReason.INCONSISTENT, detail, pointer=pointer), contest.key)
        elif (detail_of_cut := unsupported(contest, bounds.cuts)) is not None:
            submitted.refuse(Refusal(CycleReason.SEQUENCE_MISMATCH, detail_of_cut, pointer=pointer), contest.key)
        else:
            lanes.add(contest.lane)
            kept.append(contest)
    submitted.contests = kept


def judge_screenings(read: Iterable[Submitted], handed_in: Mapping[str, Collection[str]]) -> None:
    """Refuse screening statements beyond `SCREENINGS_MAX` different ones; `handed_in` has the earlier digests."""
    digests = {bank: set(earlier) for bank, earlier in handed_in.items()}
    for submitted in read:
        if submitted.screening is None or submitted.refusal is not None:
            continue
        known = digests.setdefault(submitted.bank, set())
        known.add(submitted.screening.sha256)
        if len(known) > SCREENINGS_MAX:
            known.remove(submitted.screening.sha256)
            submitted.screening = None
            detail = f"{submitted.bank} handed in {SCREENINGS_MAX} different screening statements before"
            submitted.refuse(Refusal(CycleReason.TOO_MANY_SCREENINGS, detail, pointer="/screening"))


def fresh_contests(
    accepted: Iterable[Submitted], earlier: Iterable[Contest], attested: Iterable[Attested]
) -> list[Contest]:
    """Return what is contested for the first time. A pair that its bank attested meanwhile isn't contested any more."""
    known = {contest.lane for contest in earlier}
    signed = {(statement.key, statement.participant) for statement in attested}
    # By lane, since one group may hold a submission and its repetition.
    said = {contest.lane: contest for submitted in accepted for contest in submitted.contests}
    return [c for c in said.values() if c.lane not in known and (c.key, c.sender) not in signed]


def verdicts(
    bank: str,
    asked: Sequence[tuple[PairKey, int]],
    matches: Mapping[PairKey, Match],
    refused: Sequence[RefusedPart] = (),
) -> StatementVerdicts:
    """Return what became of a bank's statements, named by pair and revision, and what was refused beside them."""
    taken = tuple(
        StatementVerdict(
            counterparty=key[2] if key[1] == bank else key[1],
            currency=key[0],
            revision=revision,
            status={"agreed": "agreed", "different": "break", "missing": "stored"}[matches[key].status],
        )
        for key, revision in asked
    )
    return StatementVerdicts(verdicts=taken, refused=tuple(refused))
