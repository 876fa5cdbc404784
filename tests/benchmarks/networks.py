"""Payment networks to measure netting on: a core that trades with everybody, and values with a heavy tail.

Everything is drawn from a seed by numpy's PCG64, so the same parameters give the same network everywhere.
"""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from tests.support import DATA

Ints = np.ndarray[Any, np.dtype[np.int64]]

AMLSIM = DATA / "payments" / "amlsim_20k_accounts_transactions.csv.gz"


@dataclass(frozen=True)
class Network:
    """Payments in the order of their queue, and the money that each bank has before them; amounts in minor units."""

    banks: int
    debtors: Ints
    creditors: Ints
    amounts: Ints
    liquidity: Ints

    @property
    def gross(self) -> int:
        """Return what would move payment by payment."""
        return int(self.amounts.sum())

    def pairs(self) -> Network:
        """Return one payment for each debtor and creditor, in canonical order."""
        key = self.debtors * self.banks + self.creditors
        keys, place = np.unique(key, return_inverse=True)
        amounts = np.zeros(len(keys), np.int64)
        np.add.at(amounts, place, self.amounts)
        return Network(self.banks, keys // self.banks, keys % self.banks, amounts, self.liquidity)


def core_periphery(
    banks: int,
    payments: int,
    *,
    seed: int,
    sigma: float = 2.0,
    liquidity: float = 0.0,
    core: float = 0.1,
    distinct: bool = False,
) -> Network:
    """Draw a network: a tenth of the banks is the core; values are lognormal with a median of 1,000.00.

    Half of the payments are within the core, two fifths between core and periphery, the rest anywhere. A bank's
    liquidity is that share of all payments' value, split by what the banks send. `distinct` draws until there are so
    many different pairs, one obligation each.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    inner = max(2, int(banks * core))
    debtors, creditors = _pairs(random, banks, inner, payments)
    while distinct:
        keys = np.unique(debtors * banks + creditors)
        if len(keys) >= payments:
            keys = np.sort(random.permutation(keys)[:payments])
            debtors, creditors = keys // banks, keys % banks
            break
        more_debtors, more_creditors = _pairs(random, banks, inner, payments)
        debtors, creditors = np.append(debtors, more_debtors), np.append(creditors, more_creditors)
    amounts = np.maximum(1, np.minimum(random.lognormal(np.log(100_000), sigma, payments), 1e13)).astype(np.int64)
    return Network(banks, debtors, creditors, amounts, _share(banks, debtors, amounts, liquidity))


def amlsim(banks: int, *, liquidity: float = 0.0) -> Network:
    """Return the transfers of the AMLSim data set, its accounts dealt out to so many banks.

    Transfers within a bank are left out: nothing has to be cleared.
    """
    with gzip.open(AMLSIM, "rt", newline="") as lines:
        rows = [
            (int(row["sourceNodeId"]) % banks, int(row["targetNodeId"]) % banks, int(Decimal(row["value"]) * 100))
            for row in csv.DictReader(lines)
        ]
    drawn = np.array([row for row in rows if row[0] != row[1] and row[2] > 0], np.int64)
    debtors, creditors, amounts = (np.ascontiguousarray(drawn[:, column]) for column in range(3))
    return Network(banks, debtors, creditors, amounts, _share(banks, debtors, amounts, liquidity))


def _pairs(random: np.random.Generator, banks: int, inner: int, count: int) -> tuple[Ints, Ints]:
    kind = random.random(count)
    anyone = random.integers(0, banks, (2, count))
    central = random.integers(0, inner, (2, count))
    debtors = np.where((kind < 0.7), central[0], anyone[0])
    creditors = np.where((kind < 0.5) | ((kind >= 0.7) & (kind < 0.9)), central[1], anyone[1])
    creditors = np.where(debtors == creditors, (creditors + 1) % banks, creditors)
    return debtors, creditors


def _share(banks: int, debtors: Ints, amounts: Ints, share: float) -> Ints:
    sent = np.zeros(banks, np.int64)
    np.add.at(sent, debtors, amounts)
    return (sent * share).astype(np.int64)
