"""The coordinator as a bank's side of the cycles asks it and hands in to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import structlog

from compliance.crypto.dsse import EvidenceError
from gateway.federation.http.client import FederationClient, RemoteError, RemoteProblem
from gateway.federation.http.peers import ANSWER_BYTES_MAX
from gateway.federation.membership.trust import TrustError
from gateway.federation.problems import Refusal
from gateway.federation.storage.failures import DATABASE_ERRORS
from participants.ledger.command import RecordedAlreadyError

T = TypeVar("T")

log = structlog.get_logger(__name__)

EXPECTED = (*DATABASE_ERRORS, RemoteError, TrustError, EvidenceError, Refusal, RecordedAlreadyError)


def report(error: Exception, event: str, **more: Any) -> None:
    """Log what went wrong: a line for what a network brings with it, the frames for what nobody foresaw."""
    if isinstance(error, EXPECTED):
        log.warning(event, error=str(error)[:200], **more)
    else:
        log.error(event, exc_info=error, **more)


# Answers that asking again doesn't change: the cycle went on without us, or has what we sent.
FINAL_ANSWERS = frozenset(range(400, 500)) - {401, 408, 429}


class Coordinator:
    """The coordinator of the scheme, by its BIC, through a bank's client."""

    def __init__(self, bic: str, client: FederationClient) -> None:
        self.bic = bic
        self._client = client

    async def get(
        self,
        path: str,
        type_: type[T],
        *,
        params: Mapping[str, Any] | None = None,
        timeout_s: float = 30,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
    ) -> T:
        """Return what the coordinator answers. Raises RemoteError."""
        url = self._client.issuer + path
        return await self._client.get(
            url, type_, audience=self.bic, params=params, timeout_s=timeout_s, answer_bytes_max=answer_bytes_max
        )

    async def submit(self, method: str, path: str, document: object) -> bytes | None:
        """Hand something in and return the answer. A refusal that asking again won't change is logged: None."""
        url = self._client.issuer + path
        try:
            answer = await self._client.request(
                method, url, audience=self.bic, json=document, idempotent=True, timeout_s=30
            )
        except RemoteProblem as problem:
            if problem.status not in FINAL_ANSWERS:
                raise
            log.warning("refused by the coordinator", path=path, code=problem.code, detail=problem.detail)
            return None
        return answer.content
