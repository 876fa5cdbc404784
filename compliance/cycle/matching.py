"""Matching: comparing what both banks of a pair signed. Pure.

A pair agrees in a currency when both banks signed the same bytes for one revision; from then on the pair takes no
further revision, so there is one agreed statement at most.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from operator import itemgetter
from typing import Literal, TypeVar

from compliance.statements import CarryReason

T = TypeVar("T")

PairKey = tuple[str, str, str]
"""Currency and the two banks, sorted."""

MatchStatus = Literal["agreed", "different", "missing"]


@dataclass(frozen=True, slots=True)
class Attested:
    """One signed statement as far as matching looks at it."""

    key: PairKey
    participant: str
    revision: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Match:
    """Where a pair stands in a currency at `revision`.

    Agreed: on the statement `sha256`. Different: both signed this revision, differently. Missing: `missing_from`
    hasn't signed it, and `differed` tells whether an earlier revision was signed by both.
    """

    key: PairKey
    status: MatchStatus
    revision: int
    sha256: str | None = None
    missing_from: str | None = None
    differed: bool = False


class Placement(Enum):
    """What a further statement of a bank is to those it signed before for the same pair and currency."""

    NEW = "new"
    REPLAY = "replay"
    EQUIVOCATION = "equivocation"
    REVISION_REFUSED = "revision_refused"


def in_order(items: Iterable[T], key: Callable[[T], PairKey]) -> Iterator[T]:
    """Yield items in the order of their pairs. Few are sorted at a time: a thread that sorts lets no other work."""
    of_low: defaultdict[tuple[str, str], list[tuple[str, T]]] = defaultdict(list)
    for item in items:
        currency, low, high = key(item)
        of_low[currency, low].append((high, item))
    for group in sorted(of_low):
        yield from (item for _, item in sorted(of_low.pop(group), key=itemgetter(0)))


def match(attested: Iterable[Attested]) -> dict[PairKey, Match]:
    """Compare all statements; one Match for each pair and currency that anybody attested, in order."""
    digests: defaultdict[PairKey, dict[str, dict[int, str]]] = defaultdict(dict)
    for statement in attested:
        digests[statement.key].setdefault(statement.participant, {})[statement.revision] = statement.sha256
    return {
        key: match_pair(key, by_bank.get(key[1], {}), by_bank.get(key[2], {}))
        for key, by_bank in sorted(digests.items())
    }


def match_pair(key: PairKey, of_low: Mapping[int, str], of_high: Mapping[int, str]) -> Match:
    """Compare what both banks of a pair signed, as digests by revision; at least one of them signed something."""
    _, low, high = key
    if len(of_low) == 1 and of_low == of_high:
        # Nearly all of them, nearly always.
        [(revision, digest)] = of_low.items()
        return Match(key, "agreed", revision, sha256=digest)
    common = sorted(of_low.keys() & of_high.keys(), reverse=True)
    for revision in common:
        if of_low[revision] == of_high[revision]:
            return Match(key, "agreed", revision, sha256=of_low[revision])
    newest_low, newest_high = max(of_low, default=0), max(of_high, default=0)
    newest = max(newest_low, newest_high)
    if common and newest == common[0]:
        return Match(key, "different", newest, differed=True)
    behind = low if newest_low < newest_high else high
    return Match(key, "missing", newest, missing_from=behind, differed=bool(common))


def placement_of(
    *, revision: int, sha256: str, own: Mapping[int, str], theirs: Mapping[int, str], revisions_max: int
) -> Placement:
    """Judge a further statement for a pair and currency; `own` and `theirs` are the digests by revision so far.

    Revisions grow by one; a bank that is behind may also sign any revision that its counterparty has signed.
    """
    if revision in own:
        return Placement.REPLAY if own[revision] == sha256 else Placement.EQUIVOCATION
    agreed = any(theirs.get(own_revision) == digest for own_revision, digest in own.items())
    newest = max(own, default=0)
    follows = revision == newest + 1 or (revision > newest and revision in theirs)
    return Placement.NEW if follows and revision <= revisions_max and not agreed else Placement.REVISION_REFUSED


def carry_reason(
    key: PairKey,
    match_of_pair: Match | None,
    *,
    active: Collection[str],
    delivered: Collection[str],
    contested: Collection[PairKey] = (),
) -> CarryReason | None:
    """Return why a pair is carried over when attestation closes, or None for an agreed one.

    `active` are the participants that aren't suspended, `delivered` those whose cut arrived, `contested` the pairs with
    a lane whose cut its sender contests.
    """
    pair = key[1:]
    if not all(bank in active for bank in pair):
        return CarryReason.PARTICIPANT_SUSPENDED
    if not all(bank in delivered for bank in pair):
        return CarryReason.CUT_MISSING
    if match_of_pair is not None and match_of_pair.status == "agreed":
        return None
    if key in contested:
        return CarryReason.CUT_CONTESTED
    return CarryReason.BREAK if match_of_pair is not None and match_of_pair.differed else CarryReason.NOT_ATTESTED
