"""The coordinator's HTTP API, as the console asks it: typed, one method per question."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from typing import TypeVar

import msgspec

from gateway.federation.http.client import FederationClient, Query, RemoteError, RemoteProblem
from gateway.federation.messages.base import Request
from gateway.federation.messages.cycles import Checks, Cycle, CyclePage, CycleProgress, OpenCycle, Positions, RetryCycle
from gateway.federation.messages.events import Events
from gateway.federation.messages.participants import ParticipantPage, ParticipantView
from gateway.federation.messages.proposals import Decision, ProposalRequest, Proposals, ProposalView

T = TypeVar("T")
CYCLES_SHOWN = 50


def describe(failure: RemoteError) -> str:
    """Say a failure in one line: the problem's code and detail, or what the connection did."""
    if isinstance(failure, RemoteProblem):
        return f"{failure.code}: {failure.detail}"
    return f"no answer ({str(failure).partition(':')[0]})"


class Caller(msgspec.Struct, frozen=True):
    """Who the coordinator takes the console for."""

    subject: str
    role: str


class _TokenClaims(msgspec.Struct, frozen=True):
    sub: str
    role: str


class ConsoleApi:
    """Asks one coordinator. Raises RemoteProblem for a refusal, RemoteUnavailable when there is no answer.

    Nothing is retried here: the feed asks again by itself, and an operator's action is sent once, so that what the
    screen says is what happened.
    """

    def __init__(self, client: FederationClient, *, coordinator_url: str, coordinator_bic: str) -> None:
        self.client = client
        self.url = coordinator_url.rstrip("/")
        self.bic = coordinator_bic

    async def caller(self) -> Caller:
        """Read subject and role from our own access token: labels for the screen, for only the coordinator checks."""
        token = await self.client.token(self.bic)
        payload = token.split(".")[1]
        claims = msgspec.json.decode(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_TokenClaims)
        return Caller(claims.sub, claims.role)

    async def cycles(self) -> CyclePage:
        return await self._get("/cycles", CyclePage, {"limit": CYCLES_SHOWN})

    async def progress(self, cycle: str) -> CycleProgress:
        return await self._get(f"/cycles/{cycle}/progress", CycleProgress)

    async def positions(self, cycle: str) -> Positions:
        return await self._get(f"/cycles/{cycle}/positions", Positions)

    async def checks(self, cycle: str) -> Checks:
        return await self._get(f"/cycles/{cycle}/checks", Checks)

    async def proposals(self, cycle: str) -> Proposals:
        return await self._get(f"/cycles/{cycle}/proposals", Proposals)

    async def registry_proposals(self) -> tuple[ProposalView, ...]:
        """What waits for a second person and isn't about a cycle; nothing with a coordinator of before."""
        try:
            waiting = await self._get("/proposals", Proposals)
        except RemoteProblem as problem:
            if problem.status == 404:
                return ()
            raise
        return tuple(proposal for proposal in waiting.proposals if proposal.cycle is None)

    async def participants(self) -> tuple[ParticipantView, ...]:
        """All participants, page after page."""
        members: list[ParticipantView] = []
        url = f"{self.url}/participants"
        async for page in self.client.pages(url, ParticipantPage, audience=self.bic, attempts_max=1):
            members += page.items
        return tuple(members)

    async def events(self, after: int, *, wait_s: int, limit: int = 1000) -> Events:
        """Long poll: what came after the cursor, or an empty page once the wait is over."""
        params = {"after": after, "wait_s": wait_s, "limit": limit}
        return await self._get("/events", Events, params, timeout_s=wait_s + 10)

    async def open_cycle(self, value_date: str | None) -> Cycle:
        return await self._post("/cycles", OpenCycle(value_date=value_date), Cycle)

    async def cut_off(self, cycle: str) -> Cycle:
        return await self._post(f"/cycles/{cycle}/cut-off", None, Cycle)

    async def retry(self, cycle: str, request: RetryCycle) -> Cycle:
        return await self._post(f"/cycles/{cycle}/retry", request, Cycle)

    async def propose(self, cycle: str, request: ProposalRequest) -> ProposalView:
        return await self._post(f"/cycles/{cycle}/proposals", request, ProposalView)

    async def decide(self, proposal: str, decision: Decision) -> ProposalView:
        return await self._post(f"/proposals/{proposal}/decision", decision, ProposalView)

    async def _get(self, path: str, kind: type[T], params: Query | None = None, *, timeout_s: float | None = None) -> T:
        return await self.client.get(
            self.url + path, kind, audience=self.bic, params=params, timeout_s=timeout_s, attempts_max=1
        )

    async def _post(self, path: str, body: Request | None, kind: type[T]) -> T:
        return await self.client.post(self.url + path, kind, audience=self.bic, json=body, attempts_max=1)
