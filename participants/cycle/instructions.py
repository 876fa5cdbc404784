"""A bank's instructions of a cycle: verified against what it signed and was shown, signed for, and posted when final.

All of a cycle's instructions go together: what is read for them is read at once, and written in one transaction,
however many currencies and counterparties there are. Each is judged by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import structlog
from msgspec import Struct

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import Signer, VerifyingKey
from compliance.cycle.positions import Position
from compliance.cycle.result import instruction_id
from compliance.statements import Receipt, SettlementFinality, SettlementInstruction
from gateway.federation.membership.trust import TrustStore
from gateway.federation.sharing import beside_if_large
from gateway.federation.signers.signing import signing
from participants.cycle import reads
from participants.cycle.commands import PostSettlement, RecordInstruction, settled_lanes
from participants.cycle.coordinator import Coordinator
from participants.cycle.results import Results
from participants.cycle.shown_result import ShownResult, check_shown, missing
from participants.cycle.statements import InstructionReason, check_instruction
from participants.cycle.value_dates import AgreedDays
from participants.ledger.command import Command
from participants.ledger.events import instructed_subject, settled_subject
from participants.ledger.writer import Ledger

log = structlog.get_logger(__name__)


class SignedInstruction(Struct, frozen=True):
    """An instruction, and the envelope that the coordinator signed it in."""

    instruction: SettlementInstruction
    envelope: Envelope

    @property
    def id(self) -> str:
        return self.instruction.id


class Instructions:
    """What a bank is told to settle, as a part of its follower. Belongs to one event loop."""

    def __init__(
        self,
        *,
        bank: str,
        coordinator: Coordinator,
        ledger: Ledger,
        pool: asyncpg.Pool,
        trust: TrustStore,
        signer: Signer,
        results: Results,
        days: AgreedDays,
        settled: Callable[[], None],
    ) -> None:
        self._bank = bank
        self._coordinator = coordinator
        self._ledger = ledger
        self._pool = pool
        self._trust = trust
        self._signer = signer
        self._results = results
        self._days = days
        self._settled = settled
        self.disagreements: dict[str, InstructionReason] = {}

    async def receive(self, cycle: str) -> None:
        """Verify this bank's instructions against its own statements, keep them, and sign for them."""
        believed = await self._believed(cycle, await reads.signed_positions(self._pool, cycle))
        await self._keep(believed)
        receipts = [
            Receipt(
                instruction=signed.id,
                participant=self._bank,
                sha256=canonical.digest(signed.envelope.payload_bytes()),
            )
            for signed in believed
        ]
        envelopes = await signing(lambda: [dsse.sign(receipt, self._signer) for receipt in receipts], self._signer)
        for envelope in envelopes:
            await self._coordinator.submit("POST", "/instructions/acknowledgements", envelope)

    async def settle(self, cycle: str) -> None:
        """Post the settlement legs of a final cycle, each once."""
        envelope = await self._coordinator.get(f"/cycles/{cycle}/finality", Envelope)
        finality = dsse.verify_submitted(envelope, SettlementFinality, self._keys())
        own = await reads.signed_positions(self._pool, cycle)
        believed = await self._believed(cycle, own)
        reason = None
        if believed and await self._results.contradicted(cycle, finality.result):
            reason = InstructionReason.SHOWN_OTHERWISE
        final = []
        for signed in believed:
            differs = (signed.instruction.result, cycle) != (finality.result, finality.cycle)
            if (doubt := InstructionReason.RESULT_DIFFERS if differs else reason) is not None:
                self._disbelieve(signed.id, doubt)
            else:
                final.append(signed)
        await self._keep(final)
        posted = await reads.recorded(self._pool, *(settled_subject(signed.id) for signed in final))
        due = [signed.instruction for signed in final if settled_subject(signed.id) not in posted]
        lanes = {lane: number for instruction in due for lane, number in settled_lanes(instruction, own).items()}
        totals = await reads.totals(self._pool, lanes)
        await self._submit([PostSettlement(instruction, finality, own, totals) for instruction in due])
        self._settled()

    async def _keep(self, believed: Sequence[SignedInstruction]) -> None:
        kept = await reads.recorded(self._pool, *(instructed_subject(signed.id) for signed in believed))
        await self._submit(
            [
                RecordInstruction(signed.instruction, signed.envelope)
                for signed in believed
                if instructed_subject(signed.id) not in kept
            ]
        )

    async def _submit(self, commands: Iterable[Command[Any]]) -> None:
        """Carry out commands in one transaction, or each for itself where one fails; raise what the first failed of."""
        answers = await asyncio.gather(*map(self._ledger.submit, commands), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    # --- believing ----------------------------------------------------------------------------------------

    async def _believed(self, cycle: str, own: Mapping[str, Position]) -> list[SignedInstruction]:
        """Return the instructions that follow from what this bank signed and was shown; the others are alarms."""
        envelopes = await self._coordinator.get(f"/cycles/{cycle}/instructions", tuple[Envelope, ...])
        keys, size = self._keys(), sum(len(envelope.payload) for envelope in envelopes)
        instructed = await beside_if_large(size, lambda: [_verified(envelope, keys) for envelope in envelopes])
        if not (instructed or own):
            return []  # This bank had no part in the cycle.
        result = instructed[0].instruction.result if instructed else None
        shown, unproven = await self._results.shown(cycle, result)
        await self._days.take_up()
        cut_at = await reads.cut_at(self._pool, cycle) or datetime.now(UTC)
        doubts: dict[str, InstructionReason] = {}

        def judge() -> None:
            for signed in instructed:
                reason = check_instruction(signed.instruction, bank=self._bank, cycle=cycle, own=own)
                reason = reason or self._days.refusal(signed.instruction, cut_at=cut_at) or unproven
                if reason is None and shown is not None:
                    reason = check_shown(signed.instruction, shown, bank=self._bank, own=own)
                if reason is not None:
                    doubts[signed.id] = reason
            if shown is not None:
                doubts.update(self._missing(cycle, shown, own, instructed))

        await beside_if_large(size, judge)
        for instruction, reason in doubts.items():
            self._disbelieve(instruction, reason)
        if shown is not None:
            await self._results.keep(shown, unproven or next(iter(doubts.values()), None))
        return [signed for signed in instructed if signed.id not in doubts]

    def _missing(
        self, cycle: str, shown: ShownResult, own: Mapping[str, Position], instructed: Iterable[SignedInstruction]
    ) -> dict[str, InstructionReason]:
        currencies = {signed.instruction.currency for signed in instructed}
        edition = shown.commitment.edition
        return {
            instruction_id(cycle, self._bank, currency, edition): reason
            for currency, reason in missing(shown, bank=self._bank, own=own.values(), instructed=currencies).items()
        }

    def _disbelieve(self, instruction: str, reason: InstructionReason) -> None:
        self.disagreements[instruction] = reason
        log.error("instruction doesn't follow from our statements", instruction=instruction, reason=reason)

    def _keys(self) -> dict[str, VerifyingKey]:
        return self._trust.signing_keys(self._coordinator.bic, retired=True)


def _verified(envelope: Envelope, keys: Mapping[str, VerifyingKey]) -> SignedInstruction:
    return SignedInstruction(dsse.verify_submitted(envelope, SettlementInstruction, keys), envelope)
