"""The other bank, as one that looks for differences asks it: each question bounded, and what all of them cost."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from compliance.crypto.dsse import Envelope
from gateway.federation.http.answers import read_answer
from gateway.federation.http.client import ANSWER_MALFORMED, FederationClient, RemoteProblem, RemoteUnavailable
from gateway.federation.membership.trust import TrustStore
from gateway.federation.messages.lanes import SharedLanes
from gateway.federation.messages.reconciliation import (
    RECORDS_MAX,
    LaneAnswer,
    LaneQuestion,
    LaneRange,
    RecordQuestion,
    SetAnswer,
    SetQuestion,
    SharedRecord,
    SharedRecords,
)
from gateway.federation.problems import problem
from participants.ledger.lanes import LaneKey
from participants.reconciliation.agreement import Agreement, Secrets, ShareRefused
from participants.reconciliation.answering import ReconciliationReason
from participants.reconciliation.faults import ComparisonFault, Fault
from participants.reconciliation.lane_tree import Node
from participants.reconciliation.report import Cost

if TYPE_CHECKING:
    from participants.reconciliation.sets import Summary

T = TypeVar("T")

ANSWER_SECONDS = 20.0
OPEN_SECONDS = 120.0
"""To make a set of a million ids, on a machine that compiles first."""
ANSWER_BYTES_MAX = 1024 * 1024
SYMBOLS_AT_ONCE = 8192
_PATH = "/federation/reconciliation"


class Peer:
    """One other bank, for one comparison."""

    def __init__(
        self, bank: str, counterparty: str, *, trust: TrustStore, client: FederationClient, secrets: Secrets
    ) -> None:
        self._bank = bank
        self._counterparty = counterparty
        self._trust = trust
        self._client = client
        self._secrets = secrets
        self.cost = Cost()

    async def lanes(self) -> list[LaneKey]:
        """Return the lanes that it says there are, its own and ours."""
        shared = await self._ask("GET", "/federation/lanes", SharedLanes)
        return [LaneKey(lane.sender, lane.receiver, lane.currency) for lane in shared.lanes]

    async def lane(self, key: LaneKey, size: int) -> tuple[LaneAnswer, bytes]:
        """Return how far it has a lane, and the root over its first `size` payments or as many as there are."""
        question = LaneQuestion(sender=key.sender, currency=key.currency, size=size)
        answer = await self._ask("POST", f"{_PATH}/lanes", LaneAnswer, question)
        (root,) = _digests(answer, 1)
        return answer, root

    async def digests(self, key: LaneKey, size: int, nodes: Sequence[Node]) -> list[bytes]:
        """Return the digests of subtrees of a lane's first `size` payments."""
        asked = tuple((node.level, node.at) for node in nodes)
        question = LaneQuestion(sender=key.sender, currency=key.currency, size=size, nodes=asked)
        return _digests(await self._ask("POST", f"{_PATH}/lanes", LaneAnswer, question), len(nodes))

    async def open(self, currency: str, lane: LaneRange) -> tuple[SetAnswer, Agreement]:
        """Agree on a secret where there is none, and have the other bank make its set under it."""
        agreement = self._secrets.asked(self._counterparty) or await self._agree()
        try:
            return await self._open(agreement, currency, lane), agreement
        except RemoteProblem as refused:
            if refused.code != ReconciliationReason.AGREEMENT_UNKNOWN:
                raise
        # It was restarted since.
        agreement = await self._agree()
        return await self._open(agreement, currency, lane), agreement

    async def _open(self, agreement: Agreement, currency: str, lane: LaneRange) -> SetAnswer:
        question = SetQuestion(agreement=agreement.name, currency=currency, lane=lane)
        return await self._ask("POST", f"{_PATH}/sets", SetAnswer, question, timeout_s=OPEN_SECONDS)

    async def _agree(self) -> Agreement:
        half = await self._secrets.half(self._counterparty)
        envelope = await self._ask("POST", f"{_PATH}/agreements", Envelope, half.envelope)
        keys = self._trust.signing_keys(self._counterparty)
        try:
            return self._secrets.take(self._counterparty, half, envelope, keys)
        except ShareRefused as error:
            raise ComparisonFault(Fault.SHARE_REFUSED, str(error)) from error

    async def symbols(self, session: str, first: int, count: int) -> bytes:
        """Return symbols of its set."""
        from participants.reconciliation.sets import SYMBOL_BYTES

        data = bytearray()
        for start in range(first, first + count, SYMBOLS_AT_ONCE):
            asked = min(SYMBOLS_AT_ONCE, first + count - start)
            params = {"first": start, "count": asked}
            part = await self._ask_bytes("GET", f"{_PATH}/sets/{session}/symbols", params=params)
            if len(part) != SYMBOL_BYTES * asked:
                raise ComparisonFault(Fault.SYMBOLS_MALFORMED, f"{len(part)} bytes of {asked} symbols")
            data += part
        self.cost = msgspec.structs.replace(self.cost, symbols=self.cost.symbols + count)
        return bytes(data)

    async def records(self, question: RecordQuestion) -> dict[str, SharedRecord]:
        """Return what it tells of payments between the two, by their ids."""
        answer = await self._ask("POST", f"{_PATH}/records", SharedRecords, question)
        rows = answer.records[: 2 * RECORDS_MAX]
        return {record.payment: record for record in rows if record.sender in (self._bank, self._counterparty)}

    async def _ask(
        self, method: str, path: str, kind: type[T], question: Any = None, *, timeout_s: float = ANSWER_SECONDS
    ) -> T:
        content = None if question is None else msgspec.json.encode(question)
        data = await self._ask_bytes(method, path, content=content, timeout_s=timeout_s)
        try:
            return read_answer(data, kind, peer=self._counterparty)
        except msgspec.DecodeError as error:
            raise RemoteProblem(problem(ANSWER_MALFORMED, 502, f"{path}: {error}"[:200])) from error

    async def _ask_bytes(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        params: Mapping[str, Any] | None = None,
        timeout_s: float = ANSWER_SECONDS,
    ) -> bytes:
        member = self._trust.member(self._counterparty)
        if member is None:
            raise RemoteUnavailable(f"{self._counterparty} isn't on the trust list")
        answer = await self._client.request(
            method,
            member.url + path,
            audience=self._counterparty,
            content=content,
            headers=None if content is None else {"Content-Type": "application/json"},
            params=params,
            timeout_s=timeout_s,
            answer_bytes_max=ANSWER_BYTES_MAX,
            idempotent=True,
        )
        self.cost = msgspec.structs.replace(
            self.cost,
            questions=self.cost.questions + 1,
            sent_bytes=self.cost.sent_bytes + len(content or b""),
            received_bytes=self.cost.received_bytes + len(answer.content),
        )
        return answer.content


def summary_of(answer: SetAnswer) -> Summary:
    """Return what the other bank says of its set. Raises ComparisonFault."""
    import numpy as np

    from participants.reconciliation.sets import BITS, Summary

    data = _decoded(answer.bits)
    if len(data) != 4 * BITS:
        raise ComparisonFault(Fault.SYMBOLS_MALFORMED, f"{len(data)} bytes of numbers of bits")
    bits = np.frombuffer(data, "<i4").astype(np.int64)
    return Summary(count=answer.count, root=bytes.fromhex(answer.root), bits=bits)


def _digests(answer: LaneAnswer, count: int) -> list[bytes]:
    data = _decoded(answer.digests)
    if len(data) != 32 * count:
        raise ComparisonFault(Fault.DIGESTS_CONTRADICT, f"{len(data)} bytes of {count} digests")
    return [data[at : at + 32] for at in range(0, len(data), 32)]


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        raise ComparisonFault(Fault.DIGESTS_CONTRADICT, "no base64") from error
