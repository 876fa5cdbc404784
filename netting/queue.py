"""The queue: payments that wait to settle, with what their senders said about them, and the limits they meet.

A payment settles whole, or in part where its sender allows a split. Payments that are linked settle together or not
at all: the legs of an exchange (PvP), or the two obligations that a pair of banks signed in one statement.

The queue's order is (priority, sequence, id): a smaller priority is more urgent, a smaller sequence is older, and
ids are compared in natural order, so that T2 stands before T10. It is a property of the payments and never of
the order in which they are given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from netting.model import AMOUNT_MAX


class QueueReason(StrEnum):
    """Why a payment or a limit is refused, in order of precedence."""

    DUPLICATE_ID = "duplicate_id"
    UNKNOWN_PARTICIPANT = "unknown_participant"
    SELF_PAYMENT = "self_payment"
    AMOUNT_NOT_POSITIVE = "amount_not_positive"
    AMOUNT_OVERFLOW = "amount_overflow"
    WINDOW_EMPTY = "window_empty"
    LINK_UNKNOWN = "link_unknown"
    LINK_SPLIT = "link_split"
    RATE_MISSING = "rate_missing"
    LINK_CYCLE = "link_cycle"
    LIMIT_NEGATIVE = "limit_negative"
    SUM_OVERFLOW = "sum_overflow"


class QueueRefusedError(ValueError):
    """A payment or limit that can't be worked with: a stable `reason`, and `place`, the id or the key it is at."""

    def __init__(self, reason: QueueReason, place: str, detail: str) -> None:
        super().__init__(f"{reason}: {place}: {detail}")
        self.reason = reason
        self.place = place
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Payment:
    """`debtor` pays `creditor` an amount in minor units.

    `earliest` and `latest` are moments on any one scale; outside of them the payment waits. `link` is the id of a
    payment that this one settles together with. `split` allows a part to settle.
    """

    id: str
    debtor: str
    creditor: str
    amount: int
    currency: str = ""
    priority: int = 0
    sequence: int = 0
    earliest: int | None = None
    latest: int | None = None
    held: bool = False
    split: bool = False
    link: str | None = None


Account = tuple[str, str]
"""Participant and currency."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What may be short over all currencies, in a base currency, after haircuts.

    `rates` say what a minor unit of a currency is worth, in whole units of the base as small as one likes.
    A long position counts for its worth less the currency's haircut, a short one for its worth and the haircut on
    top; the sum may not be below minus the participant's limit. Haircuts are in parts per million. Source: the
    tests of CLS on short positions and on the adjusted account value (FFIEC, Wholesale Payment Systems).
    """

    rates: Mapping[str, int]
    haircuts_ppm: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """What limits the payments. Everything is in minor units.

    `balances`: money before, by account; 0 if absent. `caps`: how far below zero an account may go; `default_cap`
    if absent, and None is without limit. `reserved`: what only payments up to the priority `urgent` may use.
    `bilateral`: by (debtor, creditor, currency), the most that one may pay the other net.
    `aggregate`: rates, and limits over several currencies. `participants`: if given, nobody else may be named.

    An account that is beyond its limit already may pay only out of what it receives, so that settling nothing
    is always allowed.
    """

    balances: Mapping[Account, int] = field(default_factory=dict)
    caps: Mapping[Account, int | None] = field(default_factory=dict)
    default_cap: int | None = 0
    reserved: Mapping[Account, int] = field(default_factory=dict)
    urgent: int = 0
    bilateral: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    aggregate: Aggregate | None = None
    participants: frozenset[str] | None = None

    @property
    def rates(self) -> Mapping[str, int]:
        """What a minor unit of each currency is worth; empty where values aren't compared."""
        return self.aggregate.rates if self.aggregate is not None else {}

    def cap(self, account: Account) -> int | None:
        """Return how far below zero the account may go, None where nothing limits it."""
        return self.caps.get(account, self.default_cap)


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts runs of digits by their number: T2 before T10."""
    key: list[tuple[int, int, str]] = []
    for at, part in enumerate(re.split(r"([0-9]+)", text)):
        digits = part.lstrip("0")
        key.append((0, len(digits), digits) if at % 2 else (1, 0, part))
    return (*key, (2, 0, text))


def order_key(payment: Payment) -> tuple[int, int, tuple[tuple[int, int, str], ...]]:
    """Return the key of the queue's order: the more urgent first, then the older, then by id."""
    return payment.priority, payment.sequence, natural(payment.id)


def canonical_queue(payments: Iterable[Payment], limits: Limits) -> tuple[Payment, ...]:
    """Return the payments in the queue's order; raise QueueRefusedError for what can't be worked with.

    Every order of the same payments gives the same answer, and the same refusal.
    """
    ordered = sorted(payments, key=order_key)
    ids: set[str] = set()
    for payment in ordered:
        if payment.id in ids:
            raise QueueRefusedError(QueueReason.DUPLICATE_ID, payment.id, "two payments have this id")
        ids.add(payment.id)
    for payment in ordered:
        _check(payment, ids, limits)
    _check_links(ordered)
    _check_limits(limits)
    _check_sums(ordered, limits)
    return tuple(ordered)


def due(payments: Iterable[Payment], at: int | None = None) -> tuple[Payment, ...]:
    """Return the payments that may settle at a moment: not held, within their window, and their links with them.

    Without a moment the windows aren't looked at.
    """
    payments = tuple(payments)
    waits = {
        payment.id for group in link_groups(payments) if not all(_is_due(leg, at) for leg in group) for payment in group
    }
    return tuple(payment for payment in payments if payment.id not in waits)


def _is_due(payment: Payment, at: int | None) -> bool:
    if payment.held:
        return False
    if at is None:
        return True
    return (payment.earliest is None or payment.earliest <= at) and (payment.latest is None or at <= payment.latest)


def link_groups(payments: tuple[Payment, ...]) -> list[tuple[Payment, ...]]:
    """Return the payments that settle together, group by group, in the order of each group's first payment."""
    if all(payment.link is None for payment in payments):
        return [(payment,) for payment in payments]
    group_of: dict[str, list[Payment]] = {}
    by_id = {payment.id: payment for payment in payments}
    for payment in payments:
        group_of.setdefault(payment.id, [payment])
    for payment in payments:
        if payment.link is None or payment.link not in by_id:
            continue
        group, joined = group_of[payment.id], group_of[payment.link]
        if group is not joined:
            group += joined
            for member in joined:
                group_of[member.id] = group
    place = {payment.id: at for at, payment in enumerate(payments)}
    groups = {id(group): group for group in group_of.values()}
    ordered = [tuple(sorted(group, key=lambda p: place[p.id])) for group in groups.values()]
    return sorted(ordered, key=lambda group: place[group[0].id])


def _check(payment: Payment, ids: set[str], limits: Limits) -> None:
    for name in (payment.debtor, payment.creditor):
        if limits.participants is not None and name not in limits.participants:
            raise QueueRefusedError(QueueReason.UNKNOWN_PARTICIPANT, payment.id, f"{name} isn't a participant")
    if payment.debtor == payment.creditor:
        raise QueueRefusedError(QueueReason.SELF_PAYMENT, payment.id, f"{payment.debtor} pays itself")
    if payment.amount <= 0:
        raise QueueRefusedError(QueueReason.AMOUNT_NOT_POSITIVE, payment.id, f"the amount is {payment.amount}")
    if payment.amount > AMOUNT_MAX:
        raise QueueRefusedError(QueueReason.AMOUNT_OVERFLOW, payment.id, "the amount has more than 38 digits")
    if payment.earliest is not None and payment.latest is not None and payment.latest < payment.earliest:
        detail = f"latest {payment.latest} is before earliest {payment.earliest}"
        raise QueueRefusedError(QueueReason.WINDOW_EMPTY, payment.id, detail)
    if payment.link is not None and payment.link not in ids:
        raise QueueRefusedError(
            QueueReason.LINK_UNKNOWN, payment.id, f"it is linked to {payment.link}, which isn't there"
        )
    if payment.link is not None and payment.split:
        raise QueueRefusedError(QueueReason.LINK_SPLIT, payment.id, "a linked payment settles whole")
    if limits.aggregate is not None and payment.currency not in limits.aggregate.rates:
        raise QueueRefusedError(QueueReason.RATE_MISSING, payment.id, f"no rate is given for {payment.currency}")


def _check_links(ordered: Iterable[Payment]) -> None:
    """Refuse links that go round in a circle; two legs may name each other."""
    link = {payment.id: payment.link for payment in ordered if payment.link is not None}
    cleared: set[str] = set()
    for start in link:
        path: dict[str, None] = {}
        at: str | None = start
        while at is not None and at not in cleared and at not in path:
            path[at] = None
            at = link.get(at)
        if at in path and (at == link[at] or link[link[at]] != at):
            round_ = [*list(path)[list(path).index(at) :], at]
            first = min(round_, key=natural)
            raise QueueRefusedError(QueueReason.LINK_CYCLE, first, "linked in a circle: " + " → ".join(round_))
        cleared.update(path)


def _check_limits(limits: Limits) -> None:
    rule = limits.aggregate or Aggregate(rates={})
    named: list[tuple[str, tuple[str, ...], int]] = [
        *(("/".join(key) + " cap", key[:1], cap) for key, cap in sorted(limits.caps.items()) if cap is not None),
        *(("/".join(key) + " reserved", key[:1], amount) for key, amount in sorted(limits.reserved.items())),
        *(("/".join(key) + " bilateral limit", key[:2], amount) for key, amount in sorted(limits.bilateral.items())),
        *(("/".join(key) + " balance", key[:1], abs(amount)) for key, amount in sorted(limits.balances.items())),
        *((f"{key} aggregate limit", (key,), amount) for key, amount in sorted(rule.limits.items())),
        *((f"{key} haircut", (), amount) for key, amount in sorted(rule.haircuts_ppm.items())),
        *((f"{key} rate", (), amount or -1) for key, amount in sorted(rule.rates.items())),
        ("default cap", (), limits.default_cap or 0),
    ]
    for place, names, amount in named:
        for name in names:
            if limits.participants is not None and name not in limits.participants:
                raise QueueRefusedError(QueueReason.UNKNOWN_PARTICIPANT, place, f"{name} isn't a participant")
        if amount < 0:
            raise QueueRefusedError(QueueReason.LIMIT_NEGATIVE, place, "it may not be negative, nor a rate zero")
        if amount > AMOUNT_MAX:
            raise QueueRefusedError(QueueReason.AMOUNT_OVERFLOW, place, "it has more than 38 digits")


def _check_sums(ordered: Iterable[Payment], limits: Limits) -> None:
    """Refuse what could need 39 digits: the payments of a currency, a balance after some of them, all their worth."""
    totals: dict[str, int] = {}
    highest, lowest = dict(limits.balances), dict(limits.balances)
    worth = 0
    for payment in ordered:
        amount, debtor, creditor = (
            payment.amount,
            (payment.debtor, payment.currency),
            (payment.creditor, payment.currency),
        )
        totals[payment.currency] = totals.get(payment.currency, 0) + amount
        highest[creditor] = highest.get(creditor, 0) + amount
        lowest[debtor] = lowest.get(debtor, 0) - amount
        worth += amount * limits.rates.get(payment.currency, 1 if not limits.rates else 0)
        if totals[payment.currency] > AMOUNT_MAX:
            raise QueueRefusedError(QueueReason.SUM_OVERFLOW, payment.id, "the sum of its currency needs 39 digits")
        if highest[creditor] > AMOUNT_MAX or lowest[debtor] < -AMOUNT_MAX:
            raise QueueRefusedError(QueueReason.SUM_OVERFLOW, payment.id, "a balance could need 39 digits after it")
        if limits.rates and worth > AMOUNT_MAX:
            raise QueueRefusedError(QueueReason.SUM_OVERFLOW, payment.id, "the worth of all needs 39 digits")


class Action(StrEnum):
    """What a sender, or an operator, may do with a waiting payment."""

    HOLD = "hold"
    RELEASE = "release"
    CANCEL = "cancel"


class ActionReason(StrEnum):
    """Why an action on the queue is refused, in order of precedence."""

    UNKNOWN_PAYMENT = "unknown_payment"
    ALREADY_HELD = "already_held"
    NOT_HELD = "not_held"


def act(queue: tuple[Payment, ...], action: Action, payment_id: str) -> tuple[Payment, ...] | ActionReason:
    """Return the queue after the action, or why it can't be done. What settled is no longer in the queue.

    Cancelling takes the payments linked to it out as well, as they could never settle.
    """
    target = next((payment for payment in queue if payment.id == payment_id), None)
    if target is None:
        return ActionReason.UNKNOWN_PAYMENT
    if action is Action.CANCEL:
        cancelled_ids = next({payment.id for payment in group} for group in link_groups(queue) if target in group)
        return tuple(payment for payment in queue if payment.id not in cancelled_ids)
    if target.held == (action is Action.HOLD):
        return ActionReason.ALREADY_HELD if target.held else ActionReason.NOT_HELD
    updated = replace(target, held=action is Action.HOLD)
    return tuple(updated if payment is target else payment for payment in queue)
