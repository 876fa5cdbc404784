"""A result as one hash, so that each bank can check what concerns itself and learns nothing of the others.

Every line of a NettingResult is a leaf: a pair that settles (with the digest of the statement that both its banks
signed), a pair that is carried over with its reason, and what a participant receives and pays in a currency. A pair is
one leaf, the same for both its banks: what one of them receives the other one pays, so positions that are the sums of
such leaves add up to zero, whatever else is in the tree.

Beside a bank's own leaves stand the hashes of others', whose contents are easily guessed. So each leaf holds a nonce
that nobody can compute who hasn't got the signed result; leaves stand in the order of their hashes; and hashes of
nothing fill the tree up to a power of two. Place, neighbours and number tell nothing. Whoever has the signed result,
which is the coordinator, its operators, auditors and the offline verifier, makes the same tree of it. Pure.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from compliance.crypto import canonical
from compliance.crypto.dsse import Envelope
from compliance.crypto.merkle import leaf_hash, node_hash
from compliance.cycle.matching import PairKey
from compliance.statements import (
    Bic,
    CarriedOver,
    Count,
    CurrencyCode,
    Document,
    IncludedStatement,
    NetAmount,
    NettingResult,
    ResultCommitment,
    Sha256,
    TotalAmount,
)

_SECRET = b"concordat result leaves v1\n"
LEAVES_MIN = 16
PATH_MAX = 32
LEAF_CHARACTERS_MAX = 1024


class CommittedPosition(Document, frozen=True, kw_only=True):
    """What a participant receives and pays gross in a currency, and the difference."""

    currency: CurrencyCode
    participant: Bic
    receives_minor: TotalAmount
    pays_minor: TotalAmount
    net_minor: NetAmount


class Leaf(Document, frozen=True, kw_only=True):
    """One line of a result, and a nonce; exactly one of the three is there."""

    nonce: Sha256
    settles: IncludedStatement | None = None
    carried_over: CarriedOver | None = None
    position: CommittedPosition | None = None

    @property
    def lane(self) -> PairKey | None:
        """The pair and currency that this is about, if it is about one."""
        line = self.settles or self.carried_over
        return None if line is None else (line.currency, *line.pair)

    @property
    def whole(self) -> bool:
        """Whether it says one thing."""
        return [self.settles, self.carried_over, self.position].count(None) == 2

    @property
    def about(self) -> tuple[str, ...]:
        """The participants whose line this is."""
        if self.position is not None:
            return (self.position.participant,)
        return () if self.lane is None else self.lane[1:]

    def hash(self) -> bytes:
        return leaf_hash(canonical.encode(self))


class ProvenLeaf(Struct, frozen=True, kw_only=True):
    """A leaf, where it stands, and the hashes beside its way up to the root.

    `leaf` is the canonical JSON of a `Leaf` as a text, for its very bytes are hashed.
    """

    leaf: Annotated[str, Meta(max_length=LEAF_CHARACTERS_MAX)]
    index: Count
    path: Annotated[tuple[Sha256, ...], Meta(max_length=PATH_MAX)]

    @property
    def line(self) -> Leaf:
        """What the leaf says. Raises msgspec.MsgspecError, NotCanonicalError."""
        return canonical.decode(self.leaf.encode(), Leaf)


@dataclass(frozen=True)
class Commitment:
    """What a signed result comes to as a tree. `leaves` are by their place; places of nothing have none."""

    document: ResultCommitment
    leaves: Mapping[int, Leaf]
    hashes: Sequence[bytes]

    @cached_property
    def _levels(self) -> list[Sequence[bytes]]:
        return _levels(self.hashes)

    @cached_property
    def _places(self) -> Mapping[str, Sequence[int]]:
        places: defaultdict[str, list[int]] = defaultdict(list)
        for place, leaf in self.leaves.items():
            for participant in leaf.about:
                places[participant].append(place)
        return places

    def shown_to(self, participant: str | None) -> tuple[ProvenLeaf, ...]:
        """Return a participant's own leaves with their paths, or everybody's."""
        places = self.leaves if participant is None else self._places.get(participant, ())
        return tuple(
            ProvenLeaf(leaf=canonical.encode(self.leaves[at]).decode(), index=at, path=tuple(self._path(at)))
            for at in sorted(places)
        )

    def _path(self, index: int) -> Iterator[str]:
        for level in self._levels[:-1]:
            yield level[index ^ 1].hex()
            index >>= 1


def commit(signed: Envelope) -> Commitment:
    """Return the tree over a signed NettingResult. The same envelope gives the same tree.

    The nonces come of the envelope with its signature, which nobody can guess and no bank is shown. Raises
    EvidenceError and msgspec.MsgspecError for what isn't a result; it doesn't look at who signed.
    """
    payload = signed.payload_bytes()
    result = msgspec.json.decode(payload, type=NettingResult)
    secret = hashlib.sha256(_SECRET + canonical.encode(signed)).digest()
    by_hash = {leaf.hash(): leaf for leaf in _leaves(result, secret)}
    size = LEAVES_MIN
    while size < len(by_hash):
        size *= 2
    fillers = (_keyed(secret, b"nothing %d" % number) for number in range(size - len(by_hash)))
    hashes = sorted([*by_hash, *fillers])
    document = ResultCommitment(
        cycle=result.cycle,
        edition=result.edition,
        result=canonical.digest(payload),
        leaves=size,
        root=_levels(hashes)[-1][0].hex(),
    )
    return Commitment(document, {at: by_hash[hashed] for at, hashed in enumerate(hashes) if hashed in by_hash}, hashes)


def is_proven(shown: ProvenLeaf, commitment: ResultCommitment) -> bool:
    """Tell whether a leaf stands in the tree that a commitment names."""
    if commitment.leaves != 1 << len(shown.path) or shown.index >= commitment.leaves:
        return False
    node, index = leaf_hash(shown.leaf.encode()), shown.index
    for beside in map(bytes.fromhex, shown.path):
        node = node_hash(beside, node) if index & 1 else node_hash(node, beside)
        index >>= 1
    return node.hex() == commitment.root


def _leaves(result: NettingResult, secret: bytes) -> Iterator[Leaf]:
    for settles in result.statements:
        yield Leaf(nonce=_nonce(secret, settles), settles=settles)
    for carried in result.carried_over:
        yield Leaf(nonce=_nonce(secret, carried), carried_over=carried)
    for of_currency in result.results:
        for net in of_currency.positions:
            position = CommittedPosition(
                currency=of_currency.currency,
                participant=net.participant,
                receives_minor=net.receives_minor,
                pays_minor=net.pays_minor,
                net_minor=net.net_minor,
            )
            yield Leaf(nonce=_nonce(secret, position), position=position)


def _nonce(secret: bytes, line: Document) -> str:
    return _keyed(secret, canonical.encode(line)).hex()


def _keyed(secret: bytes, data: bytes) -> bytes:
    return hmac.digest(secret, data, "sha256")


def _levels(hashes: Sequence[bytes]) -> list[Sequence[bytes]]:
    """Return the levels of the tree over a power of two of hashes, the root's last."""
    levels = [hashes]
    while len(below := levels[-1]) > 1:
        levels.append([node_hash(below[at], below[at + 1]) for at in range(0, len(below), 2)])
    return levels
