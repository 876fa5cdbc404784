"""Judging what banks submit: what is new, what was said before, what contradicts it, and the verdicts. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from compliance.cycle.contests import Contest, unsupported
from compliance.cycle.cuts import Bounds, Lane
from compliance.cycle.matching import Attested, Match, PairKey, Placement, placement_of
from gateway.coordinator.cycles.reasons import CycleReason
from gateway.coordinator.cycles.submission import ReadScreening, ReadStatement, check_sequences
from gateway.federation.messages.attestation import StatementVerdict
from gateway.federation.problems import Refusal

Verdicts = tuple[StatementVerdict, ...]


@dataclass(kw_only=True)
class Submitted:
    """One bank's submission on its way to an answer."""

    WEIGHT_MAX: ClassVar[int] = 1_536
    """Of what is judged and stored at once: some tens of milliseconds, while which nobody else is answered."""

    bank: str
    statements: list[ReadStatement]
    screening: ReadScreening | None
    complete: bool
    contests: list[Contest] = field(default_factory=list)
    fresh: list[ReadStatement] = field(default_factory=list)
    equivocal: ReadStatement | None = None

    def weight(self) -> int:
        """Return what it costs to judge and store, in statements."""
        return max(48, len(self.statements))


def judge_all(
    read: Iterable[Submitted], attested: list[Attested], bounds: Bounds, revisions_max: int
) -> list[Submitted | Refusal]:
    """Judge submissions one after another; what is new joins `attested`."""
    of_pair: defaultdict[PairKey, list[Attested]] = defaultdict(list)
    for earlier in attested:
        of_pair[earlier.key].append(earlier)
    judged: list[Submitted | Refusal] = []
    for submitted in read:
        before = [earlier for key in {s.key for s in submitted.statements} for earlier in of_pair[key]]
        try:
            submitted.fresh, submitted.equivocal = _judge(submitted.bank, submitted.statements, before, revisions_max)
            for statement in submitted.fresh:
                check_sequences(statement, bounds)
            _check_contests(submitted, bounds)
        except Refusal as refused:
            judged.append(refused)
            continue
        for statement in submitted.fresh:
            new = Attested(statement.key, submitted.bank, statement.document.revision, statement.sha256)
            of_pair[new.key].append(new)
            attested.append(new)
        judged.append(submitted)
    return judged


def _judge(
    bank: str, statements: Sequence[ReadStatement], before: Sequence[Attested], revisions_max: int
) -> tuple[list[ReadStatement], ReadStatement | None]:
    """Return the statements that are new, and the first that contradicts an earlier one. Raises Refusal."""
    signed_by: dict[tuple[PairKey, bool], dict[int, str]] = {}
    for earlier in before:
        signed_by.setdefault((earlier.key, earlier.participant == bank), {})[earlier.revision] = earlier.sha256
    fresh: list[ReadStatement] = []
    for statement in statements:
        own = signed_by.setdefault((statement.key, True), {})
        theirs = signed_by.get((statement.key, False), {})
        revision = statement.document.revision
        placement = placement_of(
            revision=revision, sha256=statement.sha256, own=own, theirs=theirs, revisions_max=revisions_max
        )
        if placement is Placement.EQUIVOCATION:
            return [], statement
        if placement is Placement.REVISION_REFUSED:
            detail = f"{' '.join(statement.key)}: revision {revision} doesn't follow, or nothing is left to mend"
            raise Refusal(CycleReason.REVISION_REFUSED, detail, pointer=statement.pointer)
        if placement is Placement.NEW:
            own[revision] = statement.sha256
            fresh.append(statement)
    return fresh, None


def _check_contests(submitted: Submitted, bounds: Bounds) -> None:
    """Check that the lanes that a bank contests were cut where it says. Raises Refusal."""
    stated = {statement.key for statement in submitted.statements}
    lanes: set[Lane] = set()
    for number, contest in enumerate(submitted.contests):
        pointer = f"/contested/{number}"
        if contest.lane in lanes or contest.key in stated:
            detail = f"{' '.join(contest.lane)}: contested twice, or contested and attested at once"
            raise Refusal(CycleReason.INCONSISTENT, detail, pointer=pointer)
        lanes.add(contest.lane)
        if (detail_of_cut := unsupported(contest, bounds.cuts)) is not None:
            raise Refusal(CycleReason.SEQUENCE_MISMATCH, detail_of_cut, pointer=pointer)


def fresh_contests(
    accepted: Iterable[Submitted], earlier: Iterable[Contest], attested: Iterable[Attested]
) -> list[Contest]:
    """Return what is contested for the first time. A pair that its bank attested meanwhile isn't contested any more."""
    known = {contest.lane for contest in earlier}
    signed = {(statement.key, statement.participant) for statement in attested}
    # By lane, since one group may hold a submission and its repetition.
    said = {contest.lane: contest for submitted in accepted for contest in submitted.contests}
    return [c for c in said.values() if c.lane not in known and (c.key, c.sender) not in signed]


def verdicts(bank: str, asked: Sequence[tuple[PairKey, int]], matches: Mapping[PairKey, Match]) -> Verdicts:
    """Return what became of a bank's statements, named by pair and revision."""
    return tuple(
        StatementVerdict(
            counterparty=key[2] if key[1] == bank else key[1],
            currency=key[0],
            revision=revision,
            status={"agreed": "agreed", "different": "break", "missing": "stored"}[matches[key].status],
        )
        for key, revision in asked
    )
