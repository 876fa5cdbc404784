"""Instructions on their way to the banks: pulled, and kept until acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from compliance import dsse
from compliance.dsse import Envelope, EvidenceError
from compliance.statements import Receipt
from gateway.coordinator import members
from gateway.coordinator.cycles import settled, store
from gateway.coordinator.cycles.reasons import CycleReason, evidence_refusal, refusal
from gateway.federation.database import transaction
from gateway.federation.views import InstructionView


class Delivery:
    """Hands out signed instructions and takes in receipts."""

    def __init__(self, engine: AsyncEngine, *, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._now = now

    async def instructions(self, cycle_id: str, participant: str | None) -> list[Envelope]:
        """Return the signed instructions of a cycle, or one participant's. Raises Refusal."""
        async with transaction(self._engine) as conn:
            await store.find(conn, cycle_id)
            return await settled.instructions(conn, cycle_id, participant)

    async def pending(self, participant: str) -> list[Envelope]:
        """Return what a participant hasn't acknowledged yet, oldest first."""
        async with transaction(self._engine) as conn:
            return await settled.pending_instructions(conn, participant)

    async def follow(self, *, cycle_id: str | None, acknowledged: bool | None) -> list[InstructionView]:
        """Return instructions as operators follow them."""
        async with transaction(self._engine) as conn:
            return await settled.instruction_views(conn, cycle=cycle_id, acknowledged=acknowledged)

    async def acknowledge(self, participant: str, envelope: Envelope) -> None:
        """Take in a bank's receipt; the first one is kept. Raises Refusal."""
        async with transaction(self._engine) as conn:
            keys = await members.keys(conn, participant, "sign")
            try:
                receipt = dsse.verify(envelope, Receipt, keys)
            except EvidenceError as error:
                raise evidence_refusal(error) from error
            digest = await settled.instruction_digest(conn, receipt.instruction, participant)
            if digest is None or receipt.participant != participant:
                raise refusal(CycleReason.INSTRUCTION_UNKNOWN, f"{participant} has no such instruction")
            if receipt.sha256 != digest:
                raise refusal(CycleReason.RECEIPT_MISMATCH, "the receipt is for other bytes than were instructed")
            await settled.acknowledge(conn, receipt.instruction, envelope, self._now())
