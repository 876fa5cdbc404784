"""What settles now of what matched, when limits bind: the netting engine asked about pairs of banks.

Both obligations of a pair are signed in one statement, so they settle together or are carried over together. Pairs
that are equally good to take stand in the order of a lot, drawn from all statements of the cycle: nobody's name
gives it a standing advantage, and nobody knows the lot before the last statement is in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Literal

from msgspec import Meta, Struct

from compliance.crypto import canonical
from compliance.cycle.certificate import Certificate, CertificateNode
from compliance.cycle.limits import Limits
from compliance.cycle.positions import Position
from compliance.statements import LiquidityResult
from netting import gridlock, queue
from netting.liquidity import certificate as engine
from netting.liquidity.certificate import CertificateError

LiquidityMode = Literal["optimal", "fifo"]
WORK_MAX = 10**9

Lane = tuple[str, tuple[str, str]]
"""Currency and pair."""


class LiquidityRule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How what settles is chosen. `work` bounds the search in steps, never in time: the same outcome everywhere."""

    mode: LiquidityMode
    work: Annotated[int, Meta(ge=1, le=WORK_MAX)]


@dataclass(frozen=True, slots=True)
class Choice:
    """The pairs that settle, and for each currency what that is worth, and what proves how much at most could."""

    settling: frozenset[Lane]
    results: tuple[LiquidityResult, ...]
    certificates: tuple[Certificate, ...]


def choose(statements: Mapping[Lane, tuple[str, Position]], limits: Limits, rule: LiquidityRule) -> Choice:
    """Choose what settles, each currency by itself; `statements` holds digest and position of each matched pair.

    A function of the sets of statements and limits. A pair that owes nothing settles always. Raises netting's
    QueueRefusedError where a sum needs more than 38 digits.
    """
    by_currency: defaultdict[str, dict[Lane, Position]] = defaultdict(dict)
    for lane, (_, position) in statements.items():
        by_currency[lane[0]][lane] = position
    bounds = _Bounds(limits.debits(), limits.between())
    settling = set[Lane]()
    results: list[LiquidityResult] = []
    certificates: list[Certificate] = []
    places: dict[Lane, int] | None = None
    for currency, matched in sorted(by_currency.items()):
        gross = sum(int(p.forth_minor) + int(p.back_minor) for p in matched.values())
        if bounds.allow(matched.values()):
            settling |= matched.keys()
            whole = Certificate(currency=currency, upper_bound_minor=str(gross), proof="everything_settles")
            outcome = _Outcome(gross, gross, optimal=True, work=0, certificate=whole)
        else:
            places = places or _lot(statements)
            now, outcome = _resolve(currency, matched, places, bounds, gross, rule)
            settling |= now
        certificates.append(outcome.certificate)
        results.append(
            LiquidityResult(
                currency=currency,
                mode=rule.mode,
                matched_minor=str(gross),
                value_minor=str(outcome.value),
                upper_bound_minor=str(outcome.upper_bound),
                gap_minor=str(outcome.upper_bound - outcome.value),
                optimal=outcome.optimal,
                work=outcome.work,
                certificate=canonical.digest(canonical.encode(outcome.certificate)),
            )
        )
    return Choice(frozenset(settling), tuple(results), tuple(certificates))


def is_bound(positions: Iterable[Position], limits: Limits) -> bool:
    """Tell whether the limits don't let all of it settle, so that what does has to be chosen."""
    return not _Bounds(limits.debits(), limits.between()).allow(positions)


@dataclass(frozen=True, slots=True)
class _Outcome:
    value: int
    upper_bound: int
    optimal: bool
    work: int
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What each participant may owe, and each of a pair the other."""

    debits: Mapping[tuple[str, str], int]
    between: Mapping[tuple[str, str, str], int]

    def allow(self, positions: Iterable[Position]) -> bool:
        """Tell whether all of it may settle: then there is nothing to choose, and that is nearly always so."""
        owes: defaultdict[tuple[str, str], int] = defaultdict(int)
        for p in positions:
            low, high, currency = p.low, p.high, p.currency
            difference = int(p.forth_minor) - int(p.back_minor)
            owes[low, currency] += difference
            owes[high, currency] -= difference
            if self.between and (
                difference > self.between.get((low, high, currency), difference)
                or -difference > self.between.get((high, low, currency), -difference)
            ):
                return False
        return all(owed <= self.debits.get(account, owed) for account, owed in owes.items())

    def kept(self, currency: str, paying: Container[str], gross: int) -> queue.Limits:
        """Return the limits of a currency as the engine takes them, as far as they concern anybody who pays."""
        return queue.Limits(
            # Nobody can owe more than all together, and small numbers are quicker to work with.
            caps={
                account: min(limit, gross)
                for account, limit in self.debits.items()
                if account[1] == currency and account[0] in paying
            },
            default_cap=None,
            bilateral={
                key: min(limit, gross)
                for key, limit in self.between.items()
                if key[2] == currency and key[0] in paying and key[1] in paying
            },
        )


def _resolve(
    currency: str,
    matched: Mapping[Lane, Position],
    places: Mapping[Lane, int],
    bounds: _Bounds,
    gross: int,
    rule: LiquidityRule,
) -> tuple[set[Lane], _Outcome]:
    """Ask the engine which pairs of one currency settle."""
    queues = {lane: _payments(position, places[lane]) for lane, position in matched.items()}
    payments = [payment for of_pair in queues.values() for payment in of_pair]
    banks = {bank for _, pair in matched for bank in pair}
    resolution = gridlock.resolve(payments, bounds.kept(currency, banks, gross), mode=rule.mode, work=rule.work)
    ids = frozenset(resolution.settled)
    settling = {lane for lane, of_pair in queues.items() if all(payment.id in ids for payment in of_pair)}
    outcome = _Outcome(
        value=resolution.value,
        upper_bound=resolution.upper_bound,
        optimal=resolution.optimal,
        work=resolution.work,
        certificate=_certificate(currency, resolution.certificate),
    )
    return settling, outcome


def check_certificate(positions: Iterable[Position], limits: Limits, certificate: Certificate) -> None:
    """Check that a certificate proves its bound, by arithmetic: nothing is searched for.

    `positions` are those of all matched pairs, whatever the currency. Raises CertificateError.
    """
    matched = [position for position in positions if position.currency == certificate.currency]
    gross = sum(int(p.forth_minor) + int(p.back_minor) for p in matched)
    bound = int(certificate.upper_bound_minor)
    if certificate.proof == "everything_settles":
        if bound < gross:
            raise CertificateError(f"{gross} matched, more than {bound}")
        return
    queues = [((p.low, p.high), _payments(p, 0)) for p in matched]
    payments = [payment for _, of_pair in queues for payment in of_pair]
    first = {pair: of_pair[0].id for pair, of_pair in queues if of_pair}
    nodes: list[engine.Node] = []
    for node in certificate.nodes:
        if node.pair is not None and node.pair not in first:
            raise CertificateError(f"{'/'.join(node.pair)} didn't match")
        item = None if node.pair is None else first[node.pair]
        most = None if node.bound_minor is None else int(node.bound_minor)
        nodes.append(engine.Node(node.parent, item, node.settles, most, node.multipliers))
    banks = {bank for pair, _ in queues for bank in pair}
    kept = _Bounds(limits.debits(), limits.between()).kept(certificate.currency, banks, gross)
    enumerated = certificate.proof == "enumerated"
    gridlock.check(payments, kept, engine.Certificate(bound, certificate.scale, tuple(nodes), enumerated=enumerated))


def _lot(statements: Mapping[Lane, tuple[str, Position]]) -> dict[Lane, int]:
    """Return each pair's place in the queue."""
    signed = sorted(f"{currency}/{'/'.join(pair)}/{digest}" for (currency, pair), (digest, _) in statements.items())
    seed = sha256("\n".join(signed).encode()).digest()
    drawn = sorted((sha256(seed + f"{lane[0]}/{'/'.join(lane[1])}".encode()).digest(), lane) for lane in statements)
    return {lane: place for place, (_, lane) in enumerate(drawn)}


def _payments(p: Position, place: int) -> list[queue.Payment]:
    """Return a pair's obligations as payments that settle together."""
    both = ((p.low, p.high, p.forth_minor), (p.high, p.low, p.back_minor))
    flows = [(sender, receiver, int(minor)) for sender, receiver, minor in both if minor != "0"]
    ids = [f"{sender}/{receiver}" for sender, receiver, _ in flows]
    return [
        queue.Payment(
            id=own,
            debtor=sender,
            creditor=receiver,
            amount=amount,
            currency=p.currency,
            sequence=place,
            link=other if other != own else None,
        )
        for (sender, receiver, amount), own, other in zip(flows, ids, reversed(ids), strict=True)
    ]


def _certificate(currency: str, proof: engine.Certificate) -> Certificate:
    """Return the engine's proof as a document; an item of the engine is a pair, named by the first of its payments."""
    return Certificate(
        currency=currency,
        upper_bound_minor=str(proof.upper_bound),
        proof="enumerated" if proof.enumerated else "tree",
        scale=proof.scale,
        nodes=tuple(
            CertificateNode(
                parent=node.parent,
                pair=None if node.item is None else _pair(node.item),
                settles=node.settles,
                bound_minor=None if node.bound is None else str(node.bound),
                multipliers=node.multipliers,
            )
            for node in proof.nodes
        ),
    )


def _pair(payment: str) -> tuple[str, str]:
    debtor, _, creditor = payment.partition("/")
    return (debtor, creditor) if debtor < creditor else (creditor, debtor)
