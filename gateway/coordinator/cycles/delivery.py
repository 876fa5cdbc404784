"""Instructions on their way to the banks: pulled, and kept until acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.statements import Receipt
from gateway.coordinator.cycles.batching import Batcher
from gateway.coordinator.cycles.reasons import CycleReason, evidence_refusal
from gateway.coordinator.cycles.tables import cycles, settlements
from gateway.coordinator.registry import members
from gateway.federation.messages.cycles import InstructionView
from gateway.federation.problems import Refusal
from gateway.federation.storage.database import transaction


class Delivery:
    """Hands out signed instructions and takes in receipts."""

    def __init__(self, engine: AsyncEngine, *, scheme: str | None, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._scheme = scheme
        self._now = now
        self._asked = Batcher(self._own)

    async def instructions(self, cycle_id: str, participant: str | None) -> list[Envelope]:
        """Return the signed instructions of a cycle, or one participant's. Raises Refusal."""
        async with transaction(self._engine) as conn:
            await cycles.find(conn, cycle_id)
            return await settlements.instructions(conn, cycle_id, participant)

    async def own(self, cycle_id: str, participant: str) -> bytes:
        """Return the JSON of a participant's signed instructions of a cycle, as it is stored. Raises Refusal."""
        return await self._asked.add(cycle_id, participant)

    async def _own(self, cycle_id: str, participants: Sequence[str]) -> list[bytes]:
        """Return it for each of some participants: once a cycle is instructed, all ask at the same moment."""
        async with transaction(self._engine) as conn:
            await cycles.find(conn, cycle_id)
            texts = await settlements.instruction_texts(conn, cycle_id, participants)
        return [f"[{','.join(texts.get(participant, ()))}]".encode() for participant in participants]

    async def pending(self, participant: str) -> list[Envelope]:
        """Return what a participant hasn't acknowledged yet, oldest first."""
        async with transaction(self._engine) as conn:
            return await settlements.pending_instructions(conn, participant)

    async def follow(self, *, cycle_id: str | None, acknowledged: bool | None) -> list[InstructionView]:
        """Return instructions as operators follow them."""
        async with transaction(self._engine) as conn:
            return await settlements.instruction_views(conn, cycle=cycle_id, acknowledged=acknowledged)

    async def acknowledge(self, participant: str, envelope: Envelope) -> None:
        """Take in a bank's receipt; the first one is kept. Raises Refusal."""
        async with transaction(self._engine) as conn:
            keys = await members.keys(conn, participant, "sign", scheme=self._scheme)
            try:
                receipt = dsse.verify_submitted(envelope, Receipt, keys)
            except EvidenceError as error:
                raise evidence_refusal(error) from error
            digest = await settlements.instruction_digest(conn, receipt.instruction, participant)
            if digest is None or receipt.participant != participant:
                raise Refusal(CycleReason.INSTRUCTION_UNKNOWN, f"{participant} has no such instruction")
            if receipt.sha256 != digest:
                raise Refusal(CycleReason.RECEIPT_MISMATCH, "the receipt is for other bytes than were instructed")
            await settlements.acknowledge(conn, receipt.instruction, envelope, self._now())
