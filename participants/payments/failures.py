"""What sending payments to another bank may fail of, and whose doing that is."""

from __future__ import annotations

from compliance.crypto.dsse import EvidenceError, EvidenceReason
from gateway.federation.http.client import RemoteError, RemoteProblem
from gateway.federation.problems import Refusal
from gateway.federation.storage.failures import DATABASE_ERRORS


class AnswerRefusedError(Exception):
    """The other bank's answer isn't one to this batch; the payments stay queued."""


# What the batch itself is refused for; anything else may pass with time.
TOO_LARGE = 413
REFUSED_AS_A_WHOLE = (400, TOO_LARGE, 422)
# What says nothing about the counterparty.
OURS = (*DATABASE_ERRORS, Refusal)
EXPECTED = (*OURS, RemoteError, AnswerRefusedError, EvidenceError)
# How a closed document is refused that says more than its reader knows.
NOT_UNDERSTOOD = EvidenceReason.SCHEMA_VIOLATION.value


def is_of_content(error: Exception) -> bool:
    """Tell whether a counterparty refused a batch for what it is."""
    return isinstance(error, RemoteProblem) and error.status in REFUSED_AS_A_WHOLE


def is_of_size(error: Exception) -> bool:
    """Tell whether a counterparty refused a batch because there is too much in it."""
    return isinstance(error, RemoteProblem) and error.status == TOO_LARGE
