"""Judging what banks submit: what is new, what was said before, what contradicts it, and the verdicts. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from compliance.cycle.contests import Contest, unsupported
from compliance.cycle.cuts import Bounds, misfit_of
from compliance.cycle.matching import PairKey, Placement, placement_of
from compliance.cycle.positions import Position
from compliance.statements import SCREENINGS_MAX
from gateway.coordinator.cycles.book import Book, Standing, Statement, by_revision
from gateway.coordinator.cycles.reasons import CycleReason
from gateway.coordinator.cycles.submission import CycleTerms, ReadAttestation, unfit
from gateway.federation.messages.attestation import AttestationVerdict, RefusedPart, StatementVerdict
from gateway.federation.problems import Refusal

# An attestation is kept whole; so many refused statements a bank's further ones may hold, and for each new one.
REFUSED_MAX = 32
REFUSED_PER_NEW_MAX = 4


@dataclass(kw_only=True)
class Submitted:
    """One bank's attestation on its way to an answer. What is refused is left out of it."""

    WEIGHT_MAX: ClassVar[int] = 8_192
    """Of what is judged and stored at once: as much as one attestation may hold."""

    bank: str
    read: ReadAttestation
    first: bool = True
    """Nothing is kept of what the bank attested in this cycle before."""
    replayed: bool = False
    """It was taken in before, so nothing of it is new."""
    contests: list[Contest] = field(default_factory=list)
    screening: str | None = None
    """The digest of the screening statement that counts from here on."""
    standing: dict[PairKey, Standing] = field(default_factory=dict)
    """Where the pair stands of each statement that is or was taken in."""
    fresh: list[Statement] = field(default_factory=list)
    """What the bank hadn't stated before."""
    bodies: list[int] = field(default_factory=list)
    """The positions that nobody had stated before."""
    left_out: list[int] = field(default_factory=list)
    """The positions that are refused."""
    equivocal: int | None = None
    """The first position that contradicts one that the bank signed before."""
    refused: list[RefusedPart] = field(default_factory=list)
    first_refusal: Refusal | None = None
    refused_whole: Refusal | None = None

    def refuse(self, refusal: Refusal, pointer: str, named: PairKey | None = None) -> None:
        """Leave a part out, for the refusal's reason; `named` is the pair that it is about."""
        refusal.pointer = pointer
        self.first_refusal = self.first_refusal or refusal
        self.refused.append(
            RefusedPart(
                pointer=pointer,
                reason=str(refusal.reason),
                detail=refusal.detail,
                counterparty=None if named is None else _other(self.bank, named),
                currency=None if named is None else named[0],
            )
        )

    @property
    def refusal(self) -> Refusal | None:
        """Why nothing is taken in: `refused_whole`, or the first refusal where nothing of a pair is left."""
        if self.refused_whole is not None:
            return self.refused_whole
        return None if self.standing or self.contests else self.first_refusal

    @property
    def complete(self) -> bool:
        """Whether the bank has said all that it has to say: what is refused it may still mend."""
        return self.read.document.complete and not self.refused

    @property
    def sha256(self) -> str:
        return self.read.sha256

    def weight(self) -> int:
        """Return what it costs to judge and store, in statements."""
        return max(96, len(self.read.positions))


def judge(submitted: Submitted, book: Book, terms: CycleTerms, revisions_max: int) -> None:
    """Judge an attestation, statement by statement, and write in the book what is new of it."""
    bank, bounds = submitted.bank, book.bounds
    standing = submitted.standing
    for index, (p, sha256) in enumerate(zip(submitted.read.positions, submitted.read.digests, strict=True)):
        statement = book.known(sha256)
        if statement is None:
            if (refusal := unfit(p, bank, terms)) is not None:
                _leave_out(submitted, index, refusal, p.key)
                continue
            statement, new = book.statement(p, sha256), True
        else:
            new = False
        key = statement.key
        pair = book.pair(key)
        own, theirs = ((), ()) if pair is None else pair.of(bank, key)
        if own or statement.revision != 1:
            placement = _placement(statement, own, theirs, revisions_max)
            if placement is Placement.REPLAY:
                assert pair is not None
                standing[key] = pair.standing
                continue
            if placement is Placement.EQUIVOCATION and submitted.equivocal is None:
                submitted.equivocal = index  # More of them prove no more.
            if placement is not Placement.NEW:
                _leave_out(submitted, index, _misplaced(bank, statement, placement), key)
                continue
        # What the other bank stated alike has been held against the cuts.
        if new and (detail := misfit_of(p, bounds)) is not None:
            _leave_out(submitted, index, Refusal(CycleReason.SEQUENCE_MISMATCH, detail), key)
            continue
        if submitted.replayed:
            _leave_out(submitted, index, _misplaced(bank, statement, Placement.NEW), key)
            continue
        if new:
            submitted.bodies.append(index)
        submitted.fresh.append(statement)
    if (refusal := _out_of_proportion(submitted)) is not None:
        submitted.refused_whole = refusal
        return
    # No two are of one pair, so none was judged by what another one says.
    for statement in submitted.fresh:
        standing[statement.key] = book.take(bank, statement)


def _out_of_proportion(submitted: Submitted) -> Refusal | None:
    """Refuse a further attestation that would be kept for few statements, with the digests of many refused ones.

    The first one is a bank's word on all its pairs, of which one fault of its books may lose most; a further one covers
    what it adds.
    """
    left_out, new = len(submitted.left_out), len(submitted.fresh)
    if submitted.first or submitted.replayed or left_out <= REFUSED_MAX + REFUSED_PER_NEW_MAX * new:
        return None
    detail = f"{new} new statements beside {left_out} that are refused; a further attestation holds what it adds:"
    detail += f" {REFUSED_MAX} others may be in it, and {REFUSED_PER_NEW_MAX} more for each new one"
    return Refusal(CycleReason.TOO_FEW_NEW, detail)


def _placement(
    statement: Statement, own: Sequence[Statement], theirs: Sequence[Statement], revisions_max: int
) -> Placement:
    return placement_of(
        revision=statement.revision,
        sha256=statement.sha256.hex(),
        own=by_revision(own),
        theirs=by_revision(theirs),
        revisions_max=revisions_max,
    )


def _misplaced(bank: str, statement: Statement, placement: Placement) -> Refusal:
    revision, name = statement.revision, " ".join(statement.key)
    match placement:
        case Placement.EQUIVOCATION:
            detail = f"{bank} signed another revision {revision} for {name} before"
            return Refusal(CycleReason.EQUIVOCATION, detail)
        case Placement.NEW:
            detail = f"{name}: revision {revision} was refused in this attestation; another one may say it"
            return Refusal(CycleReason.REVISION_REFUSED, detail)
    detail = f"{name}: revision {revision} doesn't follow, or nothing is left to mend"
    return Refusal(CycleReason.REVISION_REFUSED, detail)


def _leave_out(submitted: Submitted, index: int, refusal: Refusal, key: PairKey) -> None:
    submitted.left_out.append(index)
    submitted.refuse(refusal, f"/positions/{index}", key)


def judge_contests(submitted: Submitted, bounds: Bounds) -> None:
    """Keep the lanes that a bank contests which were cut where it says."""
    for number, lane in enumerate(submitted.read.contested):
        contest = lane.by(submitted.bank)
        if (detail := unsupported(contest, bounds.cuts)) is not None:
            submitted.refuse(Refusal(CycleReason.SEQUENCE_MISMATCH, detail), f"/contested/{number}", contest.key)
        else:
            submitted.contests.append(contest)


def judge_screenings(read: Iterable[Submitted], handed_in: Mapping[str, Collection[str]]) -> None:
    """Refuse screening statements beyond `SCREENINGS_MAX` different ones; `handed_in` has the earlier digests."""
    digests = {bank: set(earlier) for bank, earlier in handed_in.items()}
    for submitted in read:
        digest = submitted.read.document.screening
        if digest is None or submitted.refusal is not None:
            continue
        known = digests.setdefault(submitted.bank, set())
        if digest not in known and len(known) >= SCREENINGS_MAX:
            detail = f"{submitted.bank} handed in {SCREENINGS_MAX} different screening statements before"
            submitted.refuse(Refusal(CycleReason.TOO_MANY_SCREENINGS, detail), "/screening")
        else:
            known.add(digest)
            submitted.screening = digest


def fresh_contests(accepted: Iterable[Submitted], book: Book) -> list[Contest]:
    """Return what is contested for the first time. A pair that its bank attested meanwhile isn't contested any more."""
    known = {contest.lane for contest in book.contests}
    # By lane, since one group may hold a submission and its repetition.
    said = {contest.lane: contest for submitted in accepted for contest in submitted.contests}
    fresh = [contest for contest in said.values() if contest.lane not in known]
    signed = {(statement.key, statement.participant) for statement in book.attested(contest.key for contest in fresh)}
    return [contest for contest in fresh if (contest.key, contest.sender) not in signed]


def answer(submitted: Submitted) -> AttestationVerdict:
    """Return the answer to an attestation that is taken in, at least in part."""
    return _verdict(submitted.bank, submitted.standing, submitted.read.positions, submitted.refused)


def answer_again(
    bank: str, positions: Sequence[Position], refused: Collection[int], closed: Mapping[PairKey, Standing]
) -> AttestationVerdict:
    """Return the answer to an attestation that was taken in, but for what of it was refused, now that it is closed."""
    standing = {p.key: closed.get(p.key, "missing") for index, p in enumerate(positions) if index not in refused}
    late = tuple(
        RefusedPart(
            pointer=f"/positions/{index}",
            reason=str(CycleReason.DEADLINE_PASSED),
            detail="attestation is closed",
            counterparty=_other(bank, positions[index].key),
            currency=positions[index].currency,
        )
        for index in sorted(refused)
    )
    return _verdict(bank, standing, positions, late)


def _verdict(
    bank: str, standing: Mapping[PairKey, Standing], positions: Sequence[Position], refused: Sequence[RefusedPart]
) -> AttestationVerdict:
    where = list(standing.values())
    return AttestationVerdict(
        stored=where.count("missing"),
        agreed=where.count("agreed"),
        breaks=tuple(
            StatementVerdict(counterparty=_other(bank, p.key), currency=p.currency, revision=p.revision, status="break")
            for p in (positions if "differing" in where else ())
            if standing.get(p.key) == "differing"
        ),
        refused=tuple(refused),
    )


def _other(bank: str, key: PairKey) -> str:
    return key[2] if key[1] == bank else key[1]
