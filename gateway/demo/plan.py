"""The plan of a day: which banks take part, what their customers open with, and what is paid in which cycle. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from participants.intake.rows import PaymentRow, RefusedRow

REFUSED_SHOWN = 5
# Two break with each other while a third is away; each bank is a process of about 130 MB.
BANKS_MIN = 3
BANKS_MAX = 40


@dataclass(frozen=True, slots=True)
class AccountPlan:
    """A customer account in one currency and what it opens with."""

    code: str
    currency: str
    name: str
    opening_minor: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A day: `cycles[i]` are the payments sent before the i-th cut-off, in order."""

    banks: tuple[str, ...]
    accounts: Mapping[str, tuple[AccountPlan, ...]]
    cycles: tuple[tuple[PaymentRow, ...], ...]
    returned: frozenset[str] = frozenset()
    refused: Mapping[str, int] = field(default_factory=dict)
    """Rows of the file that are no payments, by reason."""
    refused_first: tuple[RefusedRow, ...] = ()

    @property
    def payments(self) -> int:
        return sum(map(len, self.cycles))

    @property
    def currencies(self) -> tuple[str, ...]:
        return tuple(sorted({payment.currency for cycle in self.cycles for payment in cycle}))

    def liquidity(self, bank: str) -> dict[str, int]:
        """Return what a bank's customers open with, by currency: its nostro before the first payment."""
        totals = dict.fromkeys(self.currencies, 0)
        for account in self.accounts[bank]:
            totals[account.currency] += account.opening_minor
        return totals


class NothingToPayError(ValueError):
    """There is no day to run: too few payments for the cycles asked for, or for a federation."""


def plan_day(
    rows: Iterable[PaymentRow | RefusedRow],
    *,
    cycles: int,
    banks: Sequence[str] = (),
    returned: frozenset[str] = frozenset(),
    returned_one_in: int = 0,
) -> Plan:
    """Spread payments over cycles in the order of their step. Raises NothingToPayError.

    Every account opens with all that it will pay, so that no order of arrival makes a payment fail. `banks` come
    first and take part whether they pay or not; others follow in alphabetical order. Who says nothing of returns
    may have about one payment in so many come back.
    """
    payments: list[PaymentRow] = []
    refused: Counter[str] = Counter()
    first: list[RefusedRow] = []
    for row in rows:
        if isinstance(row, PaymentRow):
            payments.append(row)
            continue
        refused[row.reason] += 1
        if len(first) < REFUSED_SHOWN:
            first.append(row)
    payments.sort(key=lambda payment: (payment.step, payment.line))
    if len(payments) < 2 * cycles:
        raise NothingToPayError(
            f"{len(payments)} payments are too few for {cycles} cycles"
            + (f"; refused: {_counted(refused)}" if refused else "")
        )
    if returned_one_in:
        returned = frozenset(p.id for p in payments if int(p.id[-8:], 16) % returned_one_in == 0)
    others = sorted({b for p in payments for b in (p.debtor_bank, p.creditor_bank)} - set(banks))
    everybody = (*banks, *others)
    if not BANKS_MIN <= len(everybody) <= BANKS_MAX:
        raise NothingToPayError(
            f"{len(everybody)} banks: the day needs {BANKS_MIN} at least, and this machine takes {BANKS_MAX} at most"
        )
    edges = [len(payments) * number // cycles for number in range(cycles + 1)]
    return Plan(
        banks=everybody,
        accounts=_accounts(everybody, payments),
        cycles=tuple(tuple(payments[a:b]) for a, b in pairwise(edges)),
        returned=returned,
        refused=dict(refused.most_common()),
        refused_first=tuple(first),
    )


def _accounts(banks: Sequence[str], payments: Sequence[PaymentRow]) -> dict[str, tuple[AccountPlan, ...]]:
    names: dict[tuple[str, str, str], str] = {}
    spent: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for payment in payments:
        debtor = (payment.debtor_bank, payment.debtor_account, payment.currency)
        creditor = (payment.creditor_bank, payment.creditor_account, payment.currency)
        names.setdefault(debtor, payment.debtor_name)
        names.setdefault(creditor, payment.creditor_name)
        spent[debtor] += payment.amount_minor
    accounts: dict[str, list[AccountPlan]] = {bank: [] for bank in banks}
    for (bank, code, currency), name in names.items():
        accounts[bank].append(AccountPlan(code, currency, name, spent[bank, code, currency]))
    return {bank: tuple(plans) for bank, plans in accounts.items()}


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
