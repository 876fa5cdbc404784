"""Asking other members what time it is: every answer has a `Date`, also of who takes no token of ours."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable

import httpx

from gateway.federation.clocks import Clocks
from gateway.federation.http.peers import AnswerRefused, Peers
from gateway.federation.supervision import Supervised

LOOK_SECONDS = 60.0
ASKED_MAX = 5
"""Members in one look, chosen by chance: in a large scheme the middle of a few is as good as that of all."""
ANSWER_SECONDS = 5.0
ANSWER_BYTES_MAX = 1_024


class ClockWatch:
    """Asks some members again and again. `members` are all others, by BIC and URL."""

    def __init__(self, clocks: Clocks, members: Callable[[], Iterable[tuple[str, str]]]) -> None:
        self._clocks = clocks
        self._members = members
        self._peers = Peers(timeout_s=ANSWER_SECONDS)
        self.task = Supervised("clock-watch", self._watch)

    def start(self) -> None:
        self.task.start()

    async def stop(self) -> None:
        await self.task.stop()
        await self._peers.close()

    async def _watch(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Ask some members and judge. Who doesn't answer says nothing about any clock."""
        members = list(self._members())
        asked = random.sample(members, min(ASKED_MAX, len(members)))
        await asyncio.gather(*(self._ask(member, url) for member, url in asked))
        self._clocks.tell()

    async def _ask(self, member: str, url: str) -> None:
        sent_at = time.time()
        try:
            answer = await self._peers.send("GET", f"{url}/health/live", headers={}, answer_bytes_max=ANSWER_BYTES_MAX)
        except (httpx.TransportError, httpx.InvalidURL, AnswerRefused):
            return
        date = answer.headers.get("Date")
        self._clocks.hear_answer(member, date, sent_at=sent_at, received_at=time.time())
