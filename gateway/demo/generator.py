"""Invented interbank payments with the published shape of real ones, the same for the same seed.

- **Network**: core and periphery. A few core banks all trade with each other; every other bank trades mainly with
  one or two of the core and seldom with its like (B. Craig, G. von Peter, "Interbank tiering and money center
  banks", Journal of Financial Intermediation 23, 2014). Bank sizes fall off as a power law, so that flows do.
- **Values**: lognormal with a heavy tail, medians in the hundreds and single payments in the millions
  (K. Soramäki, M. Bech, J. Arnold, R. Glass, W. Beyeler, "The topology of interbank payment flows", Physica A 379,
  2007: values on Fedwire are close to lognormal; out-degrees follow a power law).
- **Time**: little at night, peaks in mid-morning and mid-afternoon (O. Armantier, J. Arnold, J. McAndrews, "Changes
  in the timing distribution of Fedwire funds transfers", FRBNY Economic Policy Review, 2008).
- **Returns**: a small share comes back to the sender.

Values are drawn as integers: a normal variate becomes ten-thousandths at once, and the exponential is decimal.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from itertools import accumulate
from typing import Generic, TypeVar

from gateway.demo.names import FIRST_NAMES, SUBJECTS, SURNAMES, TRADES
from gateway.federation.money import EXPONENTS
from participants.intake.rows import AMOUNT_MINOR_MAX, PaymentRow

T = TypeVar("T")

# Share of payments in thousandths, and the median value in major units.
CURRENCIES: dict[str, tuple[int, int]] = {"EUR": (700, 900), "USD": (220, 1_200), "JPY": (80, 140_000)}
SIGMA = Decimal("1.7")
RETURNS_PER_MILLE = 4
CUSTOMERS_MIN = 12
CUSTOMERS_MAX = 240
# Weight of each hour of the day, 0 to 23 o'clock.
HOURS = (1, 1, 1, 1, 1, 2, 6, 20, 48, 84, 96, 88, 64, 68, 90, 100, 82, 46, 18, 6, 3, 2, 1, 1)


@dataclass(frozen=True, slots=True)
class Customer:
    """Somebody with an account at one bank, one account for each currency."""

    number: str
    name: str


@dataclass(frozen=True, slots=True)
class Day:
    """A day's payments in the order of their minute (`step`), and the ids of those that will be returned."""

    payments: tuple[PaymentRow, ...]
    returned: frozenset[str]


class _Choice(Generic[T]):
    """A weighted choice; the weights are integers, so it's exact."""

    def __init__(self, weighted: Sequence[tuple[T, int]]) -> None:
        self._items = [item for item, _ in weighted]
        self._bounds = list(accumulate(weight for _, weight in weighted))

    def draw(self, rng: random.Random) -> T:
        return rng.choices(self._items, cum_weights=self._bounds)[0]


def generate(banks: Sequence[str], *, count: int, seed: int) -> Day:
    """Return `count` payments between the banks, the largest bank first. Deterministic in its arguments."""
    if len(banks) < 2:
        raise ValueError("payments need at least two banks")
    rng = random.Random(seed)  # noqa: S311 - a repeatable day, no secret
    sizes = {bank: 10_000 // (rank + 1) for rank, bank in enumerate(banks)}
    pairs = _Choice(_pair_weights(banks, sizes, rng))
    customers = {bank: _customers(bank, sizes[bank], rng) for bank in banks}
    currencies = _Choice([(currency, share) for currency, (share, _) in CURRENCIES.items()])
    hours = _Choice(list(enumerate(HOURS)))
    minutes = sorted(hours.draw(rng) * 60 + rng.randrange(60) for _ in range(count))
    payments: list[PaymentRow] = []
    returned: set[str] = set()
    for line, minute in enumerate(minutes, start=1):
        debtor_bank, creditor_bank = pairs.draw(rng)
        debtor, creditor = customers[debtor_bank].draw(rng), customers[creditor_bank].draw(rng)
        currency = currencies.draw(rng)
        payment = PaymentRow(
            line=line,
            debtor_bank=debtor_bank,
            debtor_account=debtor.number,
            creditor_bank=creditor_bank,
            creditor_account=creditor.number,
            currency=currency,
            amount_minor=_amount(currency, rng),
            id=str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            debtor_name=debtor.name,
            creditor_name=creditor.name,
            remittance=f"{rng.choice(SUBJECTS)} {rng.randrange(10_000, 99_999)}",
            step=minute,
        )
        payments.append(payment)
        if rng.randrange(1_000) < RETURNS_PER_MILLE:
            returned.add(payment.id)
    return Day(tuple(payments), frozenset(returned))


def core_size(banks: int) -> int:
    """Return how many of so many banks are in the core: few, and at least two."""
    return max(2, min(banks, round(banks / 4)))


def _pair_weights(banks: Sequence[str], sizes: dict[str, int], rng: random.Random) -> list[tuple[tuple[str, str], int]]:
    """Weigh each ordered pair by the sizes of both and by where in the network they are; far pairs have no link."""
    core = banks[: core_size(len(banks))]
    homes = {bank: set(rng.sample(core, k=min(len(core), rng.choice((1, 2))))) for bank in banks if bank not in core}
    weights: list[tuple[tuple[str, str], int]] = []
    for sender in banks:
        for receiver in banks:
            if sender == receiver:
                continue
            link = _link_per_mille(sender, receiver, homes, rng)
            if link:
                weights.append(((sender, receiver), max(1, sizes[sender] * sizes[receiver] * link // 1_000)))
    return weights


def _link_per_mille(sender: str, receiver: str, homes: dict[str, set[str]], rng: random.Random) -> int:
    if sender not in homes and receiver not in homes:
        return 1_000
    if sender in homes and receiver in homes:
        return 60 if rng.randrange(100) < 35 else 0
    outer, inner = (sender, receiver) if sender in homes else (receiver, sender)
    return 900 if inner in homes[outer] else 90


def _customers(bank: str, size: int, rng: random.Random) -> _Choice[Customer]:
    """Invent a bank's customers; the first are the busiest, and one in four is a firm."""
    count = max(CUSTOMERS_MIN, CUSTOMERS_MAX * size // 10_000)
    people = []
    for rank in range(count):
        surname = rng.choice(SURNAMES)
        name = f"{surname} {rng.choice(TRADES)}" if rank % 4 == 0 else f"{rng.choice(FIRST_NAMES)} {surname}"
        people.append((Customer(f"{bank[:4]}-{rank + 1:05d}", name), 10_000 // (rank + 3)))
    return _Choice(people)


def _amount(currency: str, rng: random.Random) -> int:
    _, median_major = CURRENCIES[currency]
    deviation = Decimal(round(rng.gauss(0, 1) * 10_000)).scaleb(-4)
    with localcontext() as context:
        context.prec = 24
        value = Decimal(median_major * 10 ** EXPONENTS[currency]) * (deviation * SIGMA).exp()
        return max(1, min(AMOUNT_MINOR_MAX, int(value.to_integral_value())))
