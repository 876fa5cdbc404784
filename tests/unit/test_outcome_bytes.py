"""Results, certificates, instructions and commitments stay the same bytes from release to release.

The digests of `data/outcomes.json` were made by 0.3; whoever nets, instructs or commits in another way comes to them.
"""

from __future__ import annotations

import itertools
import json
import random
from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path

import pytest

from compliance.crypto import canonical
from compliance.crypto.dsse import Envelope, Signature
from compliance.cycle import positions
from compliance.cycle.commitment import commit
from compliance.cycle.limits import BilateralLimit, Cap, Limits, Prefunding
from compliance.cycle.liquidity import LiquidityMode, LiquidityRule
from compliance.cycle.positions import Position
from compliance.cycle.result import instructions, net_cycle
from compliance.statements import CarriedOver

CYCLE, AGENT, RULEBOOK = "2026-03-02-01", "AGNTXXC0", "ab" * 32
GOLDEN = json.loads((Path(__file__).parent / "data" / "outcomes.json").read_text())


def sha256(*documents: object) -> str:
    return canonical.digest(b"\n".join(canonical.encode(document) for document in documents))


class Drawn:
    """A cycle of random pairs, limits that bind more or less, and what is carried over before."""

    def __init__(self, seed: int) -> None:
        self.draw = draw = random.Random(seed)
        self.banks = [f"B{number:03d}DEFF" for number in range(draw.choice((2, 3, 5, 9, 14)))]
        self.currencies = ("EUR", "USD", "JPY")[: draw.randint(1, 3)]
        keys = [(code, *pair) for code in self.currencies for pair in itertools.combinations(self.banks, 2)]
        draw.shuffle(keys)
        unmatched = draw.randint(0, len(keys) // 4)
        self.carried = tuple(
            CarriedOver(pair=(low, high), currency=currency, reason=draw.choice(("break", "not_attested")))
            for currency, low, high in keys[:unmatched]
        )
        self.positions = [self._position(*key) for key in keys[unmatched:]]
        self.limits = self._limits()
        self.mode: LiquidityMode = draw.choice(("optimal", "fifo"))
        self.defaulted = draw.sample(self.banks, draw.randint(1, 2))

    def _amount(self) -> int:
        return self.draw.choice((0, 1, self.draw.randint(1, 1000), self.draw.randint(1, 10**15), 7 * 10**30))

    def _position(self, currency: str, low: str, high: str) -> Position:
        forth, back = self._amount(), self._amount()
        first, second = self.draw.randint(1, 9), self.draw.randint(1, 9)
        return Position(
            *(currency, low, high, self.draw.randint(1, 3)),
            *(first, first - 1 + (forth > 0), int(forth > 0), str(forth), self.draw.randbytes(32).hex()),
            *(second, second - 1 + (back > 0), int(back > 0), str(back), self.draw.randbytes(32).hex()),
        )

    def _limits(self) -> Limits:
        share, most = self.draw.choice(((0.0, 0), (0.3, 500), (0.8, 10**14), (0.5, 10**31)))
        chosen = [key for key in itertools.product(self.currencies, self.banks) if self.draw.random() < share]
        between = [
            (currency, *pair)
            for currency in self.currencies
            for pair in itertools.permutations(self.banks, 2)
            if self.draw.random() < share / 4
        ]
        return Limits(
            caps=tuple(
                Cap(participant=bank, currency=code, cap_minor=str(self.draw.randint(0, most))) for code, bank in chosen
            ),
            prefunding=tuple(
                Prefunding(
                    participant=bank, currency=code, prefunded_minor=str(self.draw.randint(5, 900)), reserved_minor="5"
                )
                for code, bank in chosen[::2]
            ),
            bilateral=tuple(
                BilateralLimit(
                    participant=one, counterparty=other, currency=code, limit_minor=str(self.draw.randint(0, most))
                )
                for code, one, other in between
            ),
        )

    def outcome(self) -> Iterable[str]:
        """Net, instruct and commit; then again without those who default. Yield a digest of each."""
        digests = [one.hex() for one in positions.digests(CYCLE, self.positions)]
        statements = list(zip(digests, self.positions, strict=True))
        supersedes, defaulted = None, ()
        for edition in (1, 2):
            netting = net_cycle(
                cycle=CYCLE,
                value_date="2026-03-02",
                rulebook_sha256=RULEBOOK,
                statements=statements,
                limits=self.limits,
                liquidity=LiquidityRule(mode=self.mode, work=3_000),
                carried_over=self.carried,
                edition=edition,
                supersedes=supersedes,
                defaulted=defaulted,
            )
            supersedes, defaulted = sha256(netting.result), tuple(self.defaulted)
            yield supersedes
            yield sha256(netting.certificates)
            yield sha256(*instructions(netting.result, statements, supersedes, AGENT))
            envelope = Envelope(
                payload=b64encode(canonical.encode(netting.result)).decode(),
                payloadType="application/vnd.concordat.netting-result.v1+json",
                signatures=(Signature(keyid="k", sig="s"),),
            )
            commitment = commit(envelope)
            yield commitment.document.root
            yield sha256(commitment.shown_to(self.banks[0]), commitment.shown_to(None))


@pytest.mark.parametrize("seed", range(len(GOLDEN)))
def test_an_outcome_is_the_same_bytes_as_ever(seed: int) -> None:
    assert list(Drawn(seed).outcome()) == GOLDEN[seed]
