"""Two banks with a million payments find the ones that differ: bytes, questions and processor time of each side.

As in life: the other bank names its set first, then coded symbols are asked for until all is known. Beside it what a
bank sends that sends all its ids (32 bytes each), and in the notes the least that any way could send; then the two
other ways that there are: digests of 1,024 buckets before the symbols of those that differ, and down the lane's tree.
Bytes are those of the bodies that travel, as they are encoded, without HTTP's headers; both sides run in this process,
one thread each, and are measured by processor time. Each is done three times under three secrets, and the median shown.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from statistics import median_low

import msgspec
import numpy as np

from compliance.crypto.merkle import node_hash
from gateway.federation.messages.reconciliation import LaneQuestion, LaneRange, SetAnswer, SetQuestion
from participants.reconciliation.difference import Comparison
from participants.reconciliation.lane_tree import Descent, Node, questions, whole
from participants.reconciliation.sets import IdSet, Words, symbol_bytes
from tests.benchmarks.rows import Row

PAYMENTS = int(os.environ.get("CONCORDAT_BENCH_PAYMENTS", "1000000"))
ROUNDS = 3
DIFFERENCES = (0, 10, 100, 1_000, 10_000)
ID_BYTES_SENT = 32
BUCKETS = 1_024
UUID, SHA256 = "0190a7d8-5f3c-7c1e-9a51-3f2b8c6d4e10", "0" * 64


@dataclass
class Meter:
    """What one way took: bytes both ways, questions, processor seconds here and there."""

    sent: int = 0
    questions: int = 0
    here_s: float = 0.0
    there_s: float = 0.0
    symbols: int = 0
    began: float = field(default_factory=time.process_time)

    def here(self) -> None:
        """Charge this bank with what was worked since the last charge."""
        now = time.process_time()
        self.here_s, self.began = self.here_s + now - self.began, now

    def there(self) -> None:
        """Charge the other bank."""
        now = time.process_time()
        self.there_s, self.began = self.there_s + now - self.began, now

    def ask(self, question: bytes, answer: bytes) -> None:
        self.sent += len(question) + len(answer)
        self.questions += 1


def run() -> list[Row]:
    """Return rows of {"what", "ours", "peer", "peer_name", "unit", "note"}; lower is better."""
    records = np.frombuffer(os.urandom(64 * (PAYMENTS + max(DIFFERENCES))), np.uint64).reshape(-1, 8)
    as_sets(os.urandom(32), records[:100], records[50:150])  # what is compiled is compiled
    rows: list[Row] = []
    for count in DIFFERENCES:
        only_here, only_there = count - count // 2, count // 2
        here = records[:PAYMENTS]
        there = np.concatenate((records[only_here:PAYMENTS], records[PAYMENTS : PAYMENTS + only_there]))
        meters = [as_sets(os.urandom(32), here, there) for _ in range(ROUNDS)]
        rows.append(_row(f"{count:,} of {PAYMENTS:,} differ: symbols", meters, count))
        if count in (10, 1_000):
            meters = [in_buckets(os.urandom(32), here, there) for _ in range(ROUNDS)]
            rows.append(_row("  in buckets first", meters, count))
    levels = _levels([hashlib.sha256(row.tobytes()).digest() for row in records[:PAYMENTS]])
    tree = [(count, down_the_tree(levels, count)) for count in (10, 100)]
    return rows + [_row(f"{count:,} differ under their numbers: tree", [meter], count) for count, meter in tree]


def as_sets(secret: bytes, here: Words, there: Words) -> Meter:
    """Compare two sets by their symbols."""
    meter = Meter()
    theirs = IdSet(secret, there)
    summary = theirs.summary
    meter.there()
    ours = IdSet(secret, here)
    comparison = Comparison(ours, summary)
    meter.here()
    lane = LaneRange(sender="ALDRXXA0", through=len(here))
    question = SetQuestion(agreement=SHA256, currency="EUR", lane=lane)
    bits = b64encode(summary.bits.astype("<i4").tobytes()).decode()
    answer = SetAnswer(session=UUID, count=summary.count, root=summary.root.hex(), bits=bits, lane=lane)
    meter.ask(msgspec.json.encode(question), msgspec.json.encode(answer))
    _stream(meter, comparison, theirs)
    return meter


def _stream(meter: Meter, comparison: Comparison, theirs: IdSet) -> None:
    while (needed := comparison.next()) is not None:
        meter.here()
        data = symbol_bytes(theirs.symbols(*needed))
        meter.there()
        comparison.take(data)
        meter.ask(b"", data)
        meter.here()
    assert comparison.result is not None
    meter.symbols += comparison.heard


def in_buckets(secret: bytes, here: Words, there: Words) -> Meter:
    """Compare digests of buckets of ids first, 16 bytes each, then the symbols of the buckets that differ."""
    meter = Meter()
    theirs = IdSet(secret, there)
    their_digests, their_places = _bucket_digests(theirs)
    meter.there()
    ours = IdSet(secret, here)
    digests, places = _bucket_digests(ours)
    differs = (digests != their_digests).any(axis=1)
    meter.here()
    meter.ask(b"", their_digests.tobytes())
    mine = IdSet(secret, here[ours.places[differs[places]]])
    meter.here()
    other = IdSet(secret, there[theirs.places[differs[their_places]]])
    summary = other.summary
    meter.there()
    meter.ask(differs.tobytes()[: BUCKETS // 8], b"0" * 400)
    _stream(meter, Comparison(mine, summary), other)
    return meter


def _bucket_digests(ids: IdSet) -> tuple[Words, Words]:
    buckets = ids.ids[:, 0] >> np.uint64(64 - BUCKETS.bit_length() + 1)
    starts = np.searchsorted(buckets, np.arange(BUCKETS, dtype=np.uint64))
    return np.bitwise_xor.reduceat(ids.ids, starts, axis=0), buckets.astype(np.int64)


def down_the_tree(levels: list[list[bytes]], count: int) -> Meter:
    """Compare a lane down its Merkle tree, whose nodes are at hand at both banks."""
    meter = Meter()
    size = len(levels[0])
    changed = {int(number) for number in np.random.default_rng(1).choice(size, count, replace=False)}
    theirs: dict[Node, bytes] = {}
    for level, nodes in enumerate(levels):
        for at in {number >> level for number in changed}:
            below = [theirs.get(node, levels[level - 1][node.at]) for node in _below(Node(level, at), levels)]
            theirs[Node(level, at)] = reduce(node_hash, below) if level else hashlib.sha256(nodes[at]).digest()
    meter.began = time.process_time()
    top = whole(size)
    descent = Descent(size, ours=levels[-1][0], theirs=theirs[top])
    meter.questions += 1
    while nodes := descent.next():
        told: dict[Node, bytes] = {}
        for question in questions(nodes):
            answer = [theirs.get(node, levels[node.level][node.at]) for node in question]
            told |= zip(question, answer, strict=True)
            asked = LaneQuestion(sender="ALDRXXA0", currency="EUR", size=size, nodes=tuple(map(tuple, question)))  # type: ignore[arg-type]
            meter.ask(msgspec.json.encode(asked), b64encode(b"".join(answer)))
        descent.take(ours={node: levels[node.level][node.at] for node in nodes}, theirs=told)
    meter.here()
    assert descent.numbers() == sorted(number + 1 for number in changed)
    return meter


def _below(node: Node, levels: list[list[bytes]]) -> Sequence[Node]:
    if node.level == 0:
        return []
    below = [Node(node.level - 1, 2 * node.at), Node(node.level - 1, 2 * node.at + 1)]
    return [part for part in below if part.at < len(levels[part.level])]


def _levels(leaves: list[bytes]) -> list[list[bytes]]:
    """Return the nodes of a tree, level by level; one without a sibling is its own parent."""
    levels = [leaves]
    while len(level := levels[-1]) > 1:
        above = [node_hash(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        levels.append(above + level[len(above) * 2 :])
    return levels


def _row(what: str, meters: list[Meter], count: int) -> Row:
    least = _least_bytes(count)
    meter = Meter(
        sent=median_low([meter.sent for meter in meters]),
        questions=median_low([meter.questions for meter in meters]),
        symbols=median_low([meter.symbols for meter in meters]),
        here_s=median_low([meter.here_s for meter in meters]),
        there_s=median_low([meter.there_s for meter in meters]),
    )
    return {
        "what": what,
        "ours": meter.sent / 1e3,
        "peer": PAYMENTS * ID_BYTES_SENT / 1e3,
        "peer_name": "all ids",
        "unit": "kB",
        "note": (
            f"{meter.questions} questions, {meter.symbols:,} symbols, CPU {meter.here_s:.2f} s here,"
            f" {meter.there_s:.2f} s there; at least {least / 1e3:,.2f} kB"
        ),
    }


def _least_bytes(count: int) -> float:
    """Return the bytes that tell which `count` of 2^128 ids differ: log2 of in how many ways they can be chosen."""
    return (128 * count - math.lgamma(count + 1) / math.log(2)) / 8


if __name__ == "__main__":
    for row in run():
        print(f"{row['what']:45s} {row['ours']:12,.2f} {row['unit']:5s} {row['peer']:12,.0f}  {row['note']}")
