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

from netting.instance import Instance


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
        from netting.enumeration import ITEMS_MAX, best

        if len(instance.items) > ITEMS_MAX:
            raise CertificateError(f"{len(instance.items)} items can't have been enumerated")
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
        below.setdefault(node.parent, []).append(t)
    for t, children in below.items():
        sides = {(nodes[child].item, nodes[child].settles) for child in children}
        if len(children) != 2 or sides != {(nodes[children[0]].item, True), (nodes[children[0]].item, False)}:
            raise CertificateError(f"node {t} isn't split into an item that settles and the same that doesn't")
    for t, node in enumerate(nodes):
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
        _check_leaf(instance, certificate, t, node, fixed)


def _check_leaf(instance: Instance, certificate: Certificate, t: int, node: Node, fixed: dict[int, bool]) -> None:
    possible = _possible(instance, fixed)
    if possible is None:
        return
    if len(fixed) == len(instance.items):
        amounts = [sum(p.amount for p in item.payments) if fixed[at] else 0 for at, item in enumerate(instance.items)]
        if not instance.fits(instance.rooms(amounts)):
            return
    if len(node.multipliers) != len(instance.rows) or any(one < 0 for one in node.multipliers):
        raise CertificateError(f"leaf {t} doesn't name a multiplier, zero or more, for each row")
    worth = 0 if node.bound is None else certificate.scale
    total = sum(by * row.room for by, row in zip(node.multipliers, instance.rows, strict=True))
    for at, item in enumerate(instance.items):
        if possible[at]:
            gain = worth * item.value + sum(node.multipliers[row] * change for row, change in item.changes)
            total += gain if fixed.get(at, False) else max(0, gain)
    if node.bound is None:
        if total >= 0:
            raise CertificateError(f"leaf {t} is said to be infeasible, but that isn't shown")
    elif total // certificate.scale > certificate.upper_bound:
        raise CertificateError(f"leaf {t} allows {total // certificate.scale}, more than {certificate.upper_bound}")


def _possible(instance: Instance, fixed: dict[int, bool]) -> list[bool] | None:
    """Return which items could settle, or None if some that must can't.

    An item that uses more of a row than there could ever be beside what must settle is out, and with it what it
    would refill; so again, until nothing changes.
    """
    possible = [fixed.get(at, True) for at in range(len(instance.items))]
    most = [row.room for row in instance.rows]
    users: list[list[tuple[int, int]]] = [[] for _ in instance.rows]
    for at, item in enumerate(instance.items):
        for row, change in item.changes:
            if (change > 0 and possible[at]) or (change < 0 and fixed.get(at, False)):
                most[row] += change
            elif change < 0 and possible[at] and not item.split:
                users[row].append((change, at))
    for entries in users:
        entries.sort(reverse=True)
    waiting = list(range(len(most)))
    while waiting:
        row = waiting.pop()
        if most[row] < 0:
            return None
        while users[row] and -users[row][-1][0] > most[row]:
            _, at = users[row].pop()
            if not possible[at]:
                continue
            possible[at] = False
            for other, change in instance.items[at].changes:
                if change > 0:
                    most[other] -= change
                    waiting.append(other)
    return possible
