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
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    CurrencyResult,
    Document,
    IncludedStatement,
    NetAmount,
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


class _Lines(Struct, frozen=True):
    """A NettingResult whose many lines are read one by one: all at once would keep every other thread waiting."""

    cycle: str
    statements: tuple[msgspec.Raw, ...]
    results: tuple[CurrencyResult, ...]
    carried_over: tuple[msgspec.Raw, ...]
    edition: int = 1


_included = msgspec.json.Decoder(IncludedStatement).decode
_carried_over = msgspec.json.Decoder(CarriedOver).decode


@dataclass(frozen=True)
class Commitment:
    """What a signed result comes to as a tree. `leaves` are their canonical JSON by their place."""

    document: ResultCommitment
    leaves: Mapping[int, bytes]
    places: Mapping[str, Sequence[int]]
    """Of each participant's leaves."""
    levels: Sequence[bytes]
    """The hashes of each level of the tree, end to end, the root's last."""

    @property
    def hashes(self) -> list[bytes]:
        """The hashes of all places, those of nothing as well."""
        return [self.levels[0][at : at + 32] for at in range(0, len(self.levels[0]), 32)]

    def shown_to(self, participant: str | None) -> tuple[ProvenLeaf, ...]:
        """Return a participant's own leaves with their paths, or everybody's."""
        places = self.leaves if participant is None else self.places.get(participant, ())
        return tuple(
            ProvenLeaf(leaf=self.leaves[at].decode(), index=at, path=tuple(self._path(at))) for at in sorted(places)
        )

    def _path(self, index: int) -> list[str]:
        path: list[str] = []
        at = index * 32
        for level in self.levels[:-1]:
            beside = at ^ 32
            path.append(level[beside : beside + 32].hex())
            at = at >> 6 << 5
        return path


def commit(signed: Envelope) -> Commitment:
    """Return the tree over a signed NettingResult. The same envelope gives the same tree.

    The nonces come of the envelope with its signature, which nobody can guess and no bank is shown. Raises
    EvidenceError and msgspec.MsgspecError for what isn't a result; it doesn't look at who signed.
    """
    payload = signed.payload_bytes()
    result = msgspec.json.decode(payload, type=_Lines)
    keyed = _keyed_of(signed)
    by_hash = {leaf_hash(leaf): (leaf, about) for leaf, about in _leaves(result, keyed)}
    hashes = _filled(by_hash, keyed)
    leaves: dict[int, bytes] = {}
    places: defaultdict[str, list[int]] = defaultdict(list)
    for at, hashed in enumerate(hashes):
        if hashed in by_hash:
            leaves[at], about = by_hash[hashed]
            for participant in about:
                places[participant].append(at)
    levels = _levels(hashes)
    document = ResultCommitment(
        cycle=result.cycle,
        edition=result.edition,
        result=canonical.digest(payload),
        leaves=len(hashes),
        root=levels[-1].hex(),
    )
    return Commitment(document, leaves, places, levels)


def committed_root(signed: Envelope) -> str:
    """Return the root of `commit`'s tree; no leaf is kept, of which there may be a million."""
    keyed = _keyed_of(signed)
    result = msgspec.json.decode(signed.payload_bytes(), type=_Lines)
    hashes = _filled({leaf_hash(leaf) for leaf, _ in _leaves(result, keyed)}, keyed)
    return _levels(hashes)[-1].hex()


def is_proven(shown: ProvenLeaf, commitment: ResultCommitment) -> bool:
    """Tell whether a leaf stands in the tree that a commitment names."""
    if commitment.leaves != 1 << len(shown.path) or shown.index >= commitment.leaves:
        return False
    node, index = leaf_hash(shown.leaf.encode()), shown.index
    for beside in map(bytes.fromhex, shown.path):
        node = node_hash(beside, node) if index & 1 else node_hash(node, beside)
        index >>= 1
    return node.hex() == commitment.root


def _leaves(result: _Lines, keyed: Callable[[bytes], bytes]) -> Iterator[tuple[bytes, tuple[str, ...]]]:
    """Yield the canonical JSON of each `Leaf`, and whose it is: put together of its line's, as the nonce is."""
    encode = canonical.encode
    for settles in map(_included, result.statements):
        line = encode(settles)
        yield b'{"nonce":"%b","settles":%b}' % (keyed(line).hex().encode(), line), settles.pair
    for carried in map(_carried_over, result.carried_over):
        line = encode(carried)
        yield b'{"carried_over":%b,"nonce":"%b"}' % (line, keyed(line).hex().encode()), carried.pair
    for of_currency in result.results:
        for net in of_currency.positions:
            position = CommittedPosition(
                currency=of_currency.currency,
                participant=net.participant,
                receives_minor=net.receives_minor,
                pays_minor=net.pays_minor,
                net_minor=net.net_minor,
            )
            line = encode(position)
            leaf = b'{"nonce":"%b","position":%b}' % (keyed(line).hex().encode(), line)
            yield leaf, (net.participant,)


def _filled(hashes: Collection[bytes], keyed: Callable[[bytes], bytes]) -> list[bytes]:
    """Return the hashes of leaves and of nothing that make up a power of two, in order."""
    size = LEAVES_MIN
    while size < len(hashes):
        size *= 2
    return sorted([*hashes, *(keyed(b"nothing %d" % number) for number in range(size - len(hashes)))])


def _keyed_of(signed: Envelope) -> Callable[[bytes], bytes]:
    """Return what makes the nonces of a signed result's leaves."""
    return _keyed_by(hashlib.sha256(_SECRET + canonical.encode(signed)).digest())


def _keyed_by(secret: bytes) -> Callable[[bytes], bytes]:
    """Return HMAC-SHA-256 (RFC 2104) with one key of 32 bytes, for a million short texts."""
    inner, outer = (hashlib.sha256(bytes(byte ^ pad for byte in secret.ljust(64, b"\0"))) for pad in (0x36, 0x5C))

    def keyed(data: bytes) -> bytes:
        within, around = inner.copy(), outer.copy()
        within.update(data)
        around.update(within.digest())
        return around.digest()

    return keyed


def _levels(hashes: Sequence[bytes]) -> list[bytes]:
    """Return the levels of the tree over a power of two of hashes, the root's last; each node is `node_hash` of two."""
    levels, sha256 = [b"".join(hashes)], hashlib.sha256
    while len(below := levels[-1]) > 32:
        nodes = [sha256(b"\x01" + below[at : at + 64]).digest() for at in range(0, len(below), 64)]
        levels.append(b"".join(nodes))
    return levels
