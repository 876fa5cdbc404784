"""Proving a result to each bank: the signed root over all its lines, and the way of the bank's own lines up to it."""

from __future__ import annotations

import asyncio

from sqlalchemy.ext.asyncio import AsyncEngine

from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import Signer
from compliance.cycle.commitment import Commitment, commit
from gateway.coordinator.cycles.reasons import CycleReason
from gateway.coordinator.cycles.tables import cycles, results
from gateway.federation.messages.cycles import ResultProof
from gateway.federation.problems import Refusal
from gateway.federation.signers.signing import sign_document
from gateway.federation.storage.database import transaction


class Proofs:
    """Proves the results of cycles. `signer` is the coordinator's.

    A commitment follows from the signed result, so nothing of it is stored. The newest is kept in memory: all banks ask
    for it at the same moment.
    """

    def __init__(self, engine: AsyncEngine, *, signer: Signer) -> None:
        self._engine = engine
        self._signer = signer
        self._newest: tuple[Commitment, Envelope] | None = None
        self._making = asyncio.Lock()

    async def proof(self, cycle_id: str, participant: str | None) -> ResultProof:
        """Return the commitment of the result in force and a participant's lines in it, or all.

        Raises Refusal `cycle_unknown`, `result_unknown`.
        """
        async with transaction(self._engine) as conn:
            cycle = await cycles.find(conn, cycle_id)
        if cycle.result is None:
            raise Refusal(CycleReason.RESULT_UNKNOWN, f"cycle {cycle_id} is {cycle.state} and has no result")
        commitment, signed = await self._commitment(cycle.result)
        shown = await asyncio.to_thread(commitment.shown_to, participant)
        return ResultProof(cycle=cycle_id, commitment=signed, leaves=shown)

    async def _commitment(self, sha256: str) -> tuple[Commitment, Envelope]:
        async with self._making:
            made = self._newest
            if made is None or made[0].document.result != sha256:
                async with transaction(self._engine) as conn:
                    signed = await results.signed(conn, sha256)
                commitment = await asyncio.to_thread(commit, signed)
                made = self._newest = commitment, await sign_document(commitment.document, self._signer)
            return made
