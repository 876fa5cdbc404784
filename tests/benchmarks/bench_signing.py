"""What signatures cost in a cycle of 500 banks: one a bank, beside one a statement as there was before.

By the algorithm that the scheme signs with, Ed25519, and by ML-DSA-65 (FIPS 204), which is made against quantum
computers and which `cryptography` brings. Milliseconds of one core for all banks together: in life each signs its own,
and the coordinator verifies all. A cost a statement is measured over some thousand and multiplied.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from tests.benchmarks.rows import Row

BANKS = 500
SAMPLE = 1_000
# As long as an attestation is with its payload type, by DSSE's rule for what is signed.
SIGNED_BYTES = 400


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """A signature algorithm: how it signs and verifies, and how long its signature is."""

    name: str
    sign: Callable[[bytes], bytes]
    verify: Callable[[bytes, bytes], None]


def run() -> list[Row]:
    """Return rows of {"what", "ours", "peer", "peer_name", "unit", "note"}; lower is better."""
    rows: list[Row] = []
    for algorithm in _algorithms():
        documents = [os.urandom(SIGNED_BYTES) for _ in range(SAMPLE)]
        started = time.process_time()
        signatures = [algorithm.sign(document) for document in documents]
        signing = (time.process_time() - started) / SAMPLE
        started = time.process_time()
        for signature, document in zip(signatures, documents, strict=True):
            algorithm.verify(signature, document)
        verifying = (time.process_time() - started) / SAMPLE
        size = len(signatures[0])
        note = f"{size:,} bytes each, {size * BANKS / 2**10:,.0f} KiB in a cycle"
        rows += [
            _row(f"{BANKS} banks sign by {algorithm.name}", signing, f"{signing * 1e6:,.0f} µs a signature"),
            _row("  and the coordinator verifies", verifying, f"{verifying * 1e6:,.0f} µs a signature; {note}"),
        ]
    return rows


def _algorithms() -> list[Algorithm]:
    ed25519, ml_dsa = Ed25519PrivateKey.generate(), MLDSA65PrivateKey.generate()
    return [
        Algorithm(name="Ed25519", sign=ed25519.sign, verify=ed25519.public_key().verify),
        Algorithm(name="ML-DSA-65", sign=ml_dsa.sign, verify=ml_dsa.public_key().verify),
    ]


def _row(what: str, each_s: float, note: str) -> Row:
    statements = BANKS * (BANKS - 1)
    return {
        "what": what,
        "ours": each_s * BANKS * 1e3,
        "peer": each_s * statements * 1e3,
        "peer_name": f"one for each of {statements:,} statements",
        "unit": "ms",
        "note": note,
    }


if __name__ == "__main__":
    for row in run():
        print(f"{row['what']:45s} {row['ours']:10,.1f} {row['unit']:5s} {row['peer']:12,.0f}  {row['note']}")
