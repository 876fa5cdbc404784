"""The proof of an upper bound, and how a reader checks it without the search.

The proof is a tree. At a node an item settles on one side and doesn't on the other, so the leaves cover every
selection. A leaf names a multiplier μ ≥ 0 for each row; for any selection x that keeps the rows, weak duality gives

    value(x) ≤ Σ_row μ·room  +  Σ_item max(0, value + Σ_row μ·change)

where an item that settles there counts as it is, one that doesn't counts nothing, and neither does one that is
larger than all that a row it uses could ever have. A leaf in which nothing is feasible names multipliers with
which the rows alone end below zero, or breaks a row by plain arithmetic. The greatest bound of a leaf is the bound.
"""

from __future__ import annotations

from dataclasses import dataclass

from netting.liquidity.instance import Instance


class CertificateError(ValueError):
    """A certificate that doesn't prove its bound. The message says at which node and why."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the tree: below `parent` (-1 for the root), `item` settles or doesn't, and is worth at most `bound`.

    `item` is the id of its first payment. `multipliers` are those of the rows, in units of 1/scale; nodes that were
    branched on need none. The bound is None where nothing is feasible.
    """

    parent: int
    item: str | None
    settles: bool
    bound: int | None
    multipliers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Certificate:
    """A proof that no selection is worth more than `upper_bound`.

    `enumerated` says that every selection was looked at: a reader checks it by doing it again, and there is no tree.
    """

    upper_bound: int
    scale: int
    nodes: tuple[Node, ...]
    enumerated: bool = False


def check(instance: Instance, certificate: Certificate) -> None:
    """Check that a certificate proves its bound for an instance; raise CertificateError where it doesn't.

    O(leaves · (items + rows)). A certificate by enumeration is checked for at most 16 items.
    """
    if certificate.enumerated:
        from netting.liquidity.enumeration import ITEMS_MAX, best

        if len(instance.items) > ITEMS_MAX or any(item.split for item in instance.items):
            raise CertificateError("more than 16 items, or parts of an item, can't have been enumerated")
        most = sum(instance.items[at].value for at in best(instance)[0])
        if most > certificate.upper_bound:
            raise CertificateError(f"a selection is worth {most}, more than {certificate.upper_bound}")
        return
    _check_tree(instance, certificate)


def _check_tree(instance: Instance, certificate: Certificate) -> None:
    nodes, place = certificate.nodes, {item.id: at for at, item in enumerate(instance.items)}
    if not nodes or nodes[0].parent != -1 or certificate.scale < 1:
        raise CertificateError("the tree has no root")
    below: dict[int, list[int]] = {}
    for t, node in enumerate(nodes[1:], start=1):
        if not 0 <= node.parent < t or node.item not in place:
            raise CertificateError(f"node {t} hangs nowhere")
        if instance.items[place[node.item]].split:
            raise CertificateError(f"node {t} leaves out that {node.item} may settle in part")
        below.setdefault(node.parent, []).append(t)
    for t, children in below.items():
        sides = {(nodes[child].item, nodes[child].settles) for child in children}
        if len(children) != 2 or sides != {(nodes[children[0]].item, True), (nodes[children[0]].item, False)}:
            raise CertificateError(f"node {t} isn't split into an item that settles and the same that doesn't")
    leaves = _Leaves(instance)
    for t in range(len(nodes)):
        if t in below:
            continue
        fixed: dict[int, bool] = {}
        at = t
        while nodes[at].parent >= 0:
            item = place[nodes[at].item or ""]
            if fixed.get(item, nodes[at].settles) != nodes[at].settles:
                raise CertificateError(f"node {t} both settles {nodes[at].item} and doesn't")
            fixed[item] = nodes[at].settles
            at = nodes[at].parent
        leaves.check(certificate, t, fixed)


class _Leaves:
    """Checks leaf after leaf; what doesn't depend on the leaf is worked out once."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._items = [(item.value, item.changes) for item in instance.items]
        # What each row could have at most, and its users that settle whole, the greatest last.
        self._most = [row.room for row in instance.rows]
        users: list[list[tuple[int, int]]] = [[] for _ in instance.rows]
        for at, item in enumerate(instance.items):
            for row, change in item.changes:
                if change > 0:
                    self._most[row] += change
                elif not item.split:
                    users[row].append((-change, at))
        self._users = [sorted(entries) for entries in users]

    def check(self, certificate: Certificate, t: int, fixed: dict[int, bool]) -> None:
        instance, node = self._instance, certificate.nodes[t]
        out = self._out(fixed)
        if out is None:
            return
        if len(fixed) == len(instance.items):
            chosen = [item.amount if fixed[at] else 0 for at, item in enumerate(instance.items)]
            value = sum(item.value for at, item in enumerate(instance.items) if fixed[at])
            if instance.fits(instance.rooms(chosen)) and value > certificate.upper_bound:
                raise CertificateError(f"leaf {t} is worth {value}, more than {certificate.upper_bound}")
            return
        by = node.multipliers
        if len(by) != len(instance.rows) or any(multiplier < 0 for multiplier in by):
            raise CertificateError(f"leaf {t} doesn't name a multiplier, zero or more, for each row")
        worth = 0 if node.bound is None else certificate.scale
        total = sum(multiplier * row.room for multiplier, row in zip(by, instance.rows, strict=True))
        for at, (value, changes) in enumerate(self._items):
            if at not in out:
                gain = worth * value
                for row, change in changes:
                    gain += by[row] * change
                if gain > 0 or fixed.get(at, False):
                    total += gain
        if node.bound is None:
            if total >= 0:
                raise CertificateError(f"leaf {t} is said to be infeasible, but that isn't shown")
        elif total // certificate.scale > certificate.upper_bound:
            raise CertificateError(f"leaf {t} allows {total // certificate.scale}, more than {certificate.upper_bound}")

    def _out(self, fixed: dict[int, bool]) -> set[int] | None:
        """Return the items that can't settle, or None if some that must can't.

        An item that uses more of a row than there could ever be beside what must settle is out, and with it what it
        would refill; so again, until nothing changes.
        """
        most, out = list(self._most), {at for at, settles in fixed.items() if not settles}
        for at, settles in fixed.items():
            for row, change in self._items[at][1]:
                if (change < 0) == settles:
                    most[row] += change if settles else -change
        looked = [len(entries) for entries in self._users]
        waiting = list(range(len(most)))
        while waiting:
            row = waiting.pop()
            if most[row] < 0:
                return None
            users = self._users[row]
            while looked[row] and users[looked[row] - 1][0] > most[row]:
                looked[row] -= 1
                at = users[looked[row]][1]
                if at in out or fixed.get(at, False):
                    continue
                out.add(at)
                for refilled, change in self._items[at][1]:
                    if change > 0:
                        most[refilled] -= change
                        waiting.append(refilled)
        return out
