"""HTTP: cycles, what banks submit to them, what operators decide, and what comes out."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any

from litestar import Controller, Request, Response, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter, QueryParameter
from litestar.types import ControllerRouterHandler
from msgspec.structs import replace

from compliance.crypto.dsse import Envelope
from compliance.cycle.audience import View, part_of
from compliance.statements import CYCLE_PATTERN, CycleId, form, whole
from gateway.coordinator.cycles.reasons import CycleReason
from gateway.coordinator.cycles.service import CycleService
from gateway.coordinator.sight import shows
from gateway.federation.http.answer_headers import FILE_NAME
from gateway.federation.http.edge import WHILE_INACTIVE
from gateway.federation.http.node import requires
from gateway.federation.http.paging import Key, Page, encode_cursor, envelope_key, rows_of
from gateway.federation.http.parameters import form_of
from gateway.federation.messages.attestation import (
    AttestationSubmission,
    AttestationVerdict,
    Breaks,
    HandedIn,
    SenderCuts,
    StatementsOfBefore,
)
from gateway.federation.messages.base import SpelledBic
from gateway.federation.messages.cycles import (
    Certificates,
    Checks,
    Cycle,
    CyclePage,
    CycleProgress,
    InstructionView,
    OpenCycle,
    Positions,
    ResultProof,
    RetryCycle,
)
from gateway.federation.messages.default import DefaultView
from gateway.federation.messages.proposals import ActProposal, Decision, ProposalRequest, Proposals, ProposalView
from gateway.federation.problems import Refusal, ServiceReason

CyclePath = Annotated[str, PathParameter(**form_of(CycleId))]
ProposalId = Annotated[
    str, form(whole(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "the id of a proposal: a UUID in small letters")
]
ProposalPath = Annotated[str, PathParameter(**form_of(ProposalId))]
Cycles = NamedDependency[CycleService]
Caller = Request[Any, Any, Any]

# About 110 bytes for each lane, and 300 for each position.
CUT_BYTES_MAX = 4 * 1024 * 1024
ATTESTATION_BYTES_MAX = 4 * 1024 * 1024
STATEMENTS_BEFORE = (
    "a bank signs all that it states in a cycle once, from release 0.2 on: POST /cycles/{cycle}/attestations;"
    " a bank that isn't upgraded is in no result, and its pairs wait for a cycle after it is"
)

_OPERATOR = requires("operator")
_PARTICIPANT = requires("participant")


class CycleController(Controller):
    path = "/cycles"
    tags = ["cycles"]  # noqa: RUF012 - Litestar's own attribute

    @get("/", **shows(View.CYCLES), operation_id="listCycles")
    async def page(
        self,
        request: Caller,
        cycles: Cycles,
        page: NamedDependency[Page],
        value_date: Annotated[date | None, QueryParameter(description="Only cycles of this value date.")] = None,
    ) -> CyclePage:
        """List the cycles, newest first; a participant sees how many of its own pairs stand where, and no totals."""
        summaries = await cycles.views.summaries(
            _part(View.CYCLES, request), limit=page.limit + 1, before=_before(page.after), value_date=value_date
        )
        items = summaries[: page.limit]
        last = items[-1].cycle if len(summaries) > page.limit else None
        return CyclePage(items=items, next=None if last is None else encode_cursor(last.value_date, last.number))

    @post("/", guards=[_OPERATOR], operation_id="openCycle")
    async def open(self, request: Caller, data: JSONBody[OpenCycle], cycles: Cycles) -> Cycle:
        """Open a cycle by hand."""
        value_date = None if data.value_date is None else _date(data.value_date)
        return (await cycles.open_on_demand(value_date, by=request.auth.sub)).message()

    @get("/current", **shows(View.CYCLES, refuses=[404]), operation_id="getCurrentCycle")
    async def current(self, cycles: Cycles) -> Cycle:
        """Show the open cycle."""
        return (await cycles.views.current()).message()

    @get("/{cycle:str}", **shows(View.CYCLES), operation_id="getCycle")
    async def facts(self, cycle: CyclePath, cycles: Cycles) -> Cycle:
        """Show one cycle."""
        return (await cycles.views.cycle(cycle)).message()

    @post("/{cycle:str}/cut-off", guards=[_OPERATOR], status_code=200, operation_id="cutOffCycle")
    async def cut_off(self, request: Caller, cycle: CyclePath, cycles: Cycles) -> Cycle:
        """Cut the open cycle off now; a cycle that was cut off before is answered as it is."""
        return (await cycles.cut_off(cycle, cause="operator", by=request.auth.sub)).message()

    @post("/{cycle:str}/retry", guards=[_OPERATOR], status_code=200, operation_id="retryCycle")
    async def retry(self, request: Caller, cycle: CyclePath, data: JSONBody[RetryCycle], cycles: Cycles) -> Cycle:
        """Take the next step of a stuck cycle at once. It is tried again by itself, too."""
        return (await cycles.retry(cycle, data.reason, by=request.auth.sub)).message()

    # --- what banks submit

    @put(
        "/{cycle:str}/cuts",
        guards=[_PARTICIPANT],
        request_max_body_size=CUT_BYTES_MAX,
        operation_id="submitCut",
    )
    async def submit_cut(self, request: Caller, cycle: CyclePath, data: JSONBody[Envelope], cycles: Cycles) -> Cycle:
        """Deliver the caller's signed `CycleCut`; the same again is fine."""
        return (await cycles.cuts.submit(request.auth.sub, cycle, data)).message()

    @get("/{cycle:str}/cuts", **shows(View.CUTS, only=["participant"]), operation_id="getCuts")
    async def cuts(self, request: Caller, cycle: CyclePath, cycles: Cycles) -> SenderCuts:
        """Show what every receiver accepted from the caller."""
        return await cycles.cuts.cuts_for(request.auth.sub, cycle)

    @post(
        "/{cycle:str}/attestations",
        guards=[_PARTICIPANT],
        status_code=200,
        request_max_body_size=ATTESTATION_BYTES_MAX,
        operation_id="submitAttestation",
    )
    async def submit_attestation(
        self, request: Caller, cycle: CyclePath, data: JSONBody[AttestationSubmission], cycles: Cycles
    ) -> AttestationVerdict:
        """Submit a signed `Attestation` with the positions and the screening statement that it covers.

        Each position is judged by itself: good ones are taken in, and the answer names those that are refused, and
        those that differ from the other bank's. They may be mended in a further attestation until the attestation
        closes. Where nothing can be taken in, the answer is the first refusal.
        """
        return await cycles.attestation.submit_attestation(request.auth.sub, cycle, data)

    @post(
        "/{cycle:str}/statements",
        guards=[_PARTICIPANT],
        opt={"body": StatementsOfBefore, "refuses": [410]},  # none of it is read
        operation_id="submitStatements",
    )
    async def submit_statements(self, cycle: CyclePath) -> None:  # noqa: ARG002
        """Refuse position statements that are signed one by one, as releases before did: `release_too_old`."""
        raise Refusal(CycleReason.RELEASE_TOO_OLD, STATEMENTS_BEFORE)

    # --- what there is to see

    @get("/{cycle:str}/breaks", **shows(View.BREAKS), operation_id="listBreaks")
    async def breaks(self, request: Caller, cycle: CyclePath, cycles: Cycles, part: NamedDependency[Page]) -> Breaks:
        """Show the breaks; a participant sees those of its own pairs."""
        breaks = await cycles.views.breaks(cycle, _part(View.BREAKS, request))
        rows = rows_of(part, breaks.breaks, lambda row: (*row.pair, row.currency, row.kind))
        return replace(breaks, breaks=tuple(rows), next=rows.next)

    @get("/{cycle:str}/progress", **shows(View.PROGRESS), operation_id="getProgress")
    async def progress(self, cycle: CyclePath, cycles: Cycles) -> CycleProgress:
        """Show how far the cycle and each participant are."""
        return await cycles.views.progress(cycle)

    @get("/{cycle:str}/positions", **shows(View.POSITIONS), operation_id="getPositions")
    async def positions(self, request: Caller, cycle: CyclePath, cycles: Cycles) -> Positions:
        """Show the net positions; a participant sees its own."""
        return await cycles.views.positions(cycle, _part(View.POSITIONS, request))

    @get("/{cycle:str}/checks", **shows(View.CHECKS), operation_id="getChecks")
    async def checks(self, cycle: CyclePath, cycles: Cycles) -> Checks:
        """Show what the checks before settlement said."""
        return await cycles.views.checks(cycle)

    @get("/{cycle:str}/result", **shows(View.RESULT), operation_id="getResult")
    async def result(self, cycle: CyclePath, cycles: Cycles) -> Envelope:
        """Show the signed `NettingResult`."""
        return await cycles.views.result(cycle)

    @get("/{cycle:str}/proof", **shows(View.PROOF), operation_id="getProof")
    async def proof(self, request: Caller, cycle: CyclePath, cycles: Cycles) -> ResultProof:
        """Prove the result: a signed `ResultCommitment`, and the lines of the result with their ways up to its root.

        A participant gets its own lines.
        """
        return await cycles.proofs.proof(cycle, _part(View.PROOF, request))

    @get("/{cycle:str}/certificates", **shows(View.CERTIFICATES), operation_id="getCertificates")
    async def certificates(self, cycle: CyclePath, cycles: Cycles) -> Certificates:
        """Show what proves how much at most could have settled; the result names each certificate by its digest."""
        return await cycles.views.certificates(cycle)

    @get("/{cycle:str}/finality", **shows(View.FINALITY), operation_id="getFinality")
    async def finality(self, cycle: CyclePath, cycles: Cycles) -> Envelope:
        """Show the signed `SettlementFinality`."""
        return await cycles.views.finality(cycle)

    @get(
        "/{cycle:str}/export",
        **shows(View.EXPORT),
        media_type="application/zip",
        operation_id="exportCycle",
        response_headers=[FILE_NAME],
    )
    async def export(self, cycle: CyclePath, cycles: Cycles) -> Response[bytes]:
        """Export the cycle's evidence as one signed archive, for `concordat verify`."""
        disposition = {"Content-Disposition": f'attachment; filename="{cycle}.zip"'}
        return Response(await cycles.export(cycle), media_type="application/zip", headers=disposition)

    # --- four eyes and instructions

    @get("/{cycle:str}/proposals", **shows(View.PROPOSALS), operation_id="listProposals")
    async def proposals(self, cycle: CyclePath, cycles: Cycles, part: NamedDependency[Page]) -> Proposals:
        """Show what operators proposed and decided, newest first."""
        return _page_of(await cycles.approvals.proposals(cycle), part)

    @post("/{cycle:str}/proposals", guards=[_OPERATOR], operation_id="propose")
    async def propose(
        self, request: Caller, cycle: CyclePath, data: JSONBody[ProposalRequest], cycles: Cycles
    ) -> ProposalView:
        """Propose to approve, hold, release or abandon the cycle, or to unwind it; another operator decides."""
        return await cycles.approvals.propose(cycle, data, maker=request.auth.sub)

    @get("/{cycle:str}/default", **shows(View.DEFAULT), operation_id="previewDefault")
    async def default(
        self,
        cycle: CyclePath,
        cycles: Cycles,
        participant: Annotated[
            list[SpelledBic],
            QueryParameter(description="Who can't pay; repeat it for several.", min_items=1, max_items=100),
        ],
    ) -> DefaultView:
        """Show what each way out of a default would mean; nothing is changed by it."""
        return await cycles.defaults.dry_run(cycle, participant)

    @get("/{cycle:str}/instructions", **shows(View.INSTRUCTIONS), operation_id="listCycleInstructions")
    async def instructions(
        self, request: Caller, cycle: CyclePath, cycles: Cycles, part: NamedDependency[Page]
    ) -> list[Envelope]:
        """Deliver the signed instructions; a participant gets its own."""
        instructions = await cycles.delivery.instructions(cycle, _part(View.INSTRUCTIONS, request))
        return rows_of(part, instructions, envelope_key)

    @get("/{cycle:str}/deliveries", **shows(View.DELIVERIES), operation_id="listDeliveries")
    async def deliveries(
        self,
        cycle: CyclePath,
        cycles: Cycles,
        part: NamedDependency[Page],
        acknowledged: Annotated[bool | None, QueryParameter(description="Only those with or without receipt.")] = None,
    ) -> list[InstructionView]:
        """Show which instructions were acknowledged when."""
        deliveries = await cycles.delivery.follow(cycle_id=cycle, acknowledged=acknowledged)
        return rows_of(part, deliveries, lambda row: (row.id,))


@get("/proposals", **shows(View.PROPOSALS), tags=["proposals"], operation_id="listPendingProposals")
async def pending_proposals(cycles: Cycles, part: NamedDependency[Page]) -> Proposals:
    """Show all that waits for a second operator, on cycles and on the registry, newest first."""
    return _page_of(await cycles.approvals.pending(), part)


@get("/proposals/{proposal:str}", **shows(View.PROPOSALS), tags=["proposals"], operation_id="getProposal")
async def proposal_facts(proposal: ProposalPath, cycles: Cycles) -> ProposalView:
    """Show one proposal, with what was signed."""
    return await cycles.approvals.proposal(proposal)


@post("/proposals", guards=[_OPERATOR], tags=["proposals"], operation_id="proposeAct")
async def propose_act(request: Caller, data: JSONBody[ActProposal], cycles: Cycles) -> ProposalView:
    """Propose to change the registry: a member's status, limits or account, or who operates; another one decides."""
    return await cycles.approvals.propose_act(data, maker=request.auth.sub)


@post(
    "/proposals/{proposal:str}/withdrawal",
    guards=[_OPERATOR],
    status_code=200,
    tags=["proposals"],
    operation_id="withdrawProposal",
)
async def withdraw(request: Caller, proposal: ProposalPath, cycles: Cycles) -> ProposalView:
    """Take one's own proposal back; the same again is fine."""
    return await cycles.approvals.withdraw(proposal, maker=request.auth.sub)


@post("/proposals/{proposal:str}/decision", guards=[_OPERATOR], status_code=200, tags=["cycles"], operation_id="decide")
async def decide(request: Caller, proposal: ProposalPath, data: JSONBody[Decision], cycles: Cycles) -> ProposalView:
    """Confirm or reject another operator's proposal. The maker is never the checker."""
    return await cycles.approvals.decide(proposal, data, checker=request.auth.sub)


@get(
    "/submissions/latest",
    guards=[_PARTICIPANT],
    opt=WHILE_INACTIVE,
    tags=["cycles"],
    operation_id="getLatestSubmission",
)
async def latest_submission(request: Caller, cycles: Cycles) -> HandedIn:
    """Show what the caller handed in last: a bank that doesn't know it runs on an old backup."""
    return await cycles.views.handed_in(request.auth.sub)


@get(
    "/instructions",
    **shows(View.INSTRUCTIONS, only=["participant"]),
    tags=["cycles"],
    operation_id="listPendingInstructions",
)
async def pending_instructions(request: Caller, cycles: Cycles, part: NamedDependency[Page]) -> list[Envelope]:
    """Deliver the caller's instructions of all cycles that it hasn't acknowledged, oldest first."""
    return rows_of(part, await cycles.delivery.pending(request.auth.sub), envelope_key)


@post(
    "/instructions/acknowledgements",
    **shows(View.INSTRUCTIONS, only=["participant"]),
    status_code=204,
    tags=["cycles"],
    operation_id="acknowledgeInstruction",
)
async def acknowledge(request: Caller, data: JSONBody[Envelope], cycles: Cycles) -> None:
    """Acknowledge an instruction by a signed `Receipt`; the same again is fine."""
    await cycles.delivery.acknowledge(request.auth.sub, data)


def _page_of(listed: Proposals, part: Page) -> Proposals:
    rows = rows_of(part, listed.proposals, lambda row: (row.id,))
    return replace(listed, proposals=tuple(rows), next=rows.next)


def _part(view: View, request: Caller) -> str | None:
    """Return the participant whose part of a view the caller sees; None for all."""
    return part_of(view, role=request.auth.role, name=request.auth.sub)


def _before(after: Key | None) -> tuple[date, int] | None:
    """Read the cursor of a page of cycles; raises Refusal (cursor_malformed, 400)."""
    match after:
        case None:
            return None
        case (str(day), int(number)) if re.search(CYCLE_PATTERN, f"{day}-{number:02d}"):
            return _date(day), number
    raise Refusal(ServiceReason.CURSOR_MALFORMED, "not a cursor of this list")


def _date(day: str) -> date:
    try:
        return date.fromisoformat(day)
    except ValueError:
        raise Refusal(CycleReason.VALUE_DATE_REFUSED, f"{day} isn't a date") from None


route_handlers: list[ControllerRouterHandler] = [
    CycleController, pending_proposals, proposal_facts, propose_act, withdraw, decide, latest_submission,
    pending_instructions, acknowledge,
]  # fmt: skip
