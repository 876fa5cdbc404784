"""A coordinator as one bank sees it, in the bank's own process: real messages and signatures, and no other bank.

The others are taken to have signed what this one signs: it nets that, signs the result and what follows from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from compliance.crypto import canonical, dsse
from compliance.crypto.keys import SigningKey, VerifyingKey
from compliance.cycle import positions
from compliance.cycle.commitment import commit
from compliance.cycle.contests import digest_of
from compliance.cycle.limits import Limits
from compliance.cycle.liquidity import LiquidityRule
from compliance.cycle.positions import Position
from compliance.cycle.result import instructions, net_cycle
from compliance.statements import Attestation, Receipt, SettlementFinality, SettlementInstruction
from gateway.federation.http.answers import read_answer
from gateway.federation.messages.attestation import (
    AttestationSubmission,
    AttestationVerdict,
    BreakNotice,
    Breaks,
    SenderCuts,
)
from gateway.federation.messages.calendar import CalendarView
from gateway.federation.messages.cycles import ResultProof
from participants.cycle.coordinator import Coordinator

T = TypeVar("T")
BIC, AGENT = "CNCDXXC0", "AGNTBEB1"


class ScriptedCoordinator(Coordinator):
    """Answers what a bank asks in one cycle, and keeps what it hands in."""

    def __init__(self, cycle: str, bank: str, key: VerifyingKey) -> None:
        self.bic = BIC
        self.signs = SigningKey.generate()
        self.cycle = cycle
        self.cuts: SenderCuts | None = None
        self.breaks: list[BreakNotice] = []
        self.attestations: list[AttestationSubmission] = []
        self.receipts: list[Receipt] = []
        self.refuses: Exception | None = None
        """Raised in place of the answer to the next thing that is handed in, which it has taken in."""
        self._bank = bank
        self._keys = {key.kid: key}
        self._answers: dict[str, Any] = {}

    @property
    def stated(self) -> dict[str, Position]:
        """What was attested, by the digests of the statements."""
        rows = [position for submission in self.attestations for position in submission.positions]
        return {digest.hex(): row for digest, row in zip(positions.digests(self.cycle, rows), rows, strict=True)}

    async def get(
        self,
        path: str,
        type_: type[T],
        *,
        params: Mapping[str, Any] | None = None,
        timeout_s: float = 30,
        answer_bytes_max: int = 0,
    ) -> T:
        """Return what is asked for, read as from a wire."""
        what = path.rpartition("/")[2]
        answers = {
            "cuts": self.cuts,
            "breaks": Breaks(cycle=self.cycle, breaks=tuple(self.breaks)),
            "calendar": CalendarView(today=self.cycle[:10], time_zone="UTC", closed=()),
        } | self._answers
        return read_answer(msgspec.json.encode(answers[what]), type_, peer=BIC)

    async def submit(self, method: str, path: str, document: object) -> bytes | None:
        """Take in an attestation or a receipt, and verify it."""
        body = msgspec.json.encode(document)
        if path == "/instructions/acknowledgements":
            envelope = msgspec.json.decode(body, type=dsse.Envelope)
            self.receipts.append(dsse.verify_submitted(envelope, Receipt, self._keys))
            return b""
        assert path == f"/cycles/{self.cycle}/attestations"
        submission = msgspec.json.decode(body, type=AttestationSubmission)
        attestation = self.verified(submission)
        self.attestations.append(submission)
        if (refused := self.refuses) is not None:
            self.refuses = None
            raise refused
        return msgspec.json.encode(AttestationVerdict(stored=attestation.statements, agreed=0))

    def verified(self, submission: AttestationSubmission) -> Attestation:
        """Return the attestation, which covers all that stands beside it and nothing else."""
        attestation = dsse.verify_submitted(submission.attestation, Attestation, self._keys)
        rows = submission.positions
        assert (attestation.cycle, attestation.participant) == (self.cycle, self._bank)
        assert (attestation.statements, positions.first_out_of_order(rows)) == (len(rows), None)
        assert attestation.root == positions.root_over(positions.digests(self.cycle, rows))
        screening = submission.screening
        digest = None if screening is None else canonical.digest(canonical.encode(screening))
        assert attestation.screening == digest
        assert attestation.contested == digest_of(submission.contested)
        return attestation

    def net(self) -> None:
        """Net what was attested: from now on there are instructions, a proof of the result and its finality."""
        statements = list(self.stated.items())
        result = net_cycle(
            cycle=self.cycle,
            value_date=self.cycle[:10],
            rulebook_sha256="0" * 64,
            statements=statements,
            limits=Limits(),
            liquidity=LiquidityRule(mode="optimal", work=1000),
            carried_over=(),
        ).result
        sha256 = canonical.digest(canonical.encode(result))
        commitment = commit(dsse.sign(result, self.signs))
        mine: list[SettlementInstruction] = [
            one for one in instructions(result, statements, sha256, AGENT) if one.participant == self._bank
        ]
        finality = SettlementFinality(
            cycle=self.cycle,
            result=sha256,
            settlement_agent=AGENT,
            agent_reference="1",
            settled_at=f"{self.cycle[:10]}T12:00:00Z",
        )
        self._answers = {
            "instructions": [dsse.sign(one, self.signs) for one in mine],
            "proof": ResultProof(
                cycle=self.cycle,
                commitment=dsse.sign(commitment.document, self.signs),
                leaves=commitment.shown_to(self._bank),
            ),
            "finality": dsse.sign(finality, self.signs),
        }
