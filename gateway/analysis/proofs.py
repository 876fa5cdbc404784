"""The proof of a resolution's bound as a file: written, read again, and checked against the payments.

A file is canonical JSON, on one line:

    {"at": 7, "proofs": [
        {"currency": "EUR", "enumerated": false, "nodes": […], "rows": […], "scale": 1, "upper_bound": 12}
    ]}

There is one proof for each queue that was resolved on its own, without `currency` where one spans several. `at` is the
moment that it is about, absent if there is none. `rows` names the limits: ["account", "A", "EUR"] for what A may
pay out, "unreserved" for what isn't kept for urgent payments, ["bilateral", "A", "B", "EUR"] for what A may pay B
net, "position" for an account without a limit. A node of the tree is

    {"bound": 12, "item": "T1", "multipliers": [0, 1], "parent": 0, "settles": true}

below the node with the number `parent` (-1 for the first). `item` (the id of its first payment) settles there or
doesn't; leaves have a multiplier for each row, in units of 1/scale, and a `bound` of null where nothing can be done.
`netting.certificate` says why this proves that nothing is worth more than `upper_bound`. With `enumerated` there is
no tree: there are so few payments that a reader can look at every selection.
"""

from __future__ import annotations

import msgspec

from compliance.crypto import canonical
from gateway.analysis.files import Form, read_records
from gateway.analysis.queues import Queue
from netting.certificate import Certificate, CertificateError, Node
from netting.gridlock import check
from netting.liquidity.instance import instance_of
from netting.queue import due


class ProofNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A node of the tree."""

    parent: int
    item: str | None
    settles: bool
    bound: int | None
    multipliers: tuple[int, ...]


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The proof of one queue's bound."""

    upper_bound: int
    scale: int
    enumerated: bool
    rows: tuple[tuple[str, ...], ...]
    nodes: tuple[ProofNode, ...]
    currency: str | None = None


class ProofFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The proofs of all queues of a file, at a moment."""

    proofs: tuple[Proof, ...]
    at: int | None = None


def document(queues: tuple[Queue, ...], certificates: list[Certificate], at: int | None) -> bytes:
    """Return the proofs as canonical JSON."""
    proofs = tuple(_proof(queue, certificate, at) for queue, certificate in zip(queues, certificates, strict=True))
    return canonical.encode(ProofFile(proofs, at)) + b"\n"


def read_proofs(file: str) -> ProofFile:
    """Read a file of proofs. Raises InputRefusedError."""
    return read_records(file, ProofFile, rows="proofs", row_kind=Proof, form=Form.JSON).document


def check_proofs(queues: tuple[Queue, ...], proofs: ProofFile, at: int | None) -> None:
    """Check that each queue's proof proves its bound; raise CertificateError where one doesn't."""
    if proofs.at != at:
        raise CertificateError(f"it is about {_moment(proofs.at)}, and asked for is {_moment(at)}")
    if [proof.currency for proof in proofs.proofs] != [queue.currency for queue in queues]:
        raise CertificateError("it is about payments in other currencies")
    for queue, proof in zip(queues, proofs.proofs, strict=True):
        prefix = "" if queue.currency is None or len(queues) == 1 else f"{queue.currency}: "
        if proof.rows != _rows(queue, at):
            raise CertificateError(f"{prefix}it is about other limits")
        nodes = tuple(Node(node.parent, node.item, node.settles, node.bound, node.multipliers) for node in proof.nodes)
        certificate = Certificate(proof.upper_bound, proof.scale, nodes, proof.enumerated)
        try:
            check(queue.payments, queue.limits, certificate, at=at)
        except CertificateError as error:
            raise CertificateError(f"{prefix}{error}") from error


def _proof(queue: Queue, certificate: Certificate, at: int | None) -> Proof:
    nodes = tuple(
        ProofNode(node.parent, node.item, node.settles, node.bound, node.multipliers) for node in certificate.nodes
    )
    return Proof(
        certificate.upper_bound, certificate.scale, certificate.enumerated, _rows(queue, at), nodes, queue.currency
    )


def _rows(queue: Queue, at: int | None) -> tuple[tuple[str, ...], ...]:
    return tuple((row.kind, *row.of) for row in instance_of(due(queue.payments, at), queue.limits).rows)


def _moment(at: int | None) -> str:
    return "no moment" if at is None else f"the moment {at}"
