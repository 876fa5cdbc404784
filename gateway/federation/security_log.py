"""The security log: one line for each refusal of who somebody is or what he may do, and one for each change.

The lines are among the others, marked `"log":"security"`, and written whatever level the log has. They name who, from
where, by which token and why, and never what: no body, no amount, no customer.
"""

from __future__ import annotations

from typing import Any

import structlog

from compliance.terminal import shown
from gateway.federation import correlation

TEXT_CHARACTERS_MAX = 256
REFUSALS = frozenset({401, 403, 429})
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_NOTES = "concordat.security"

_log = structlog.get_logger(log="security")


def note(scope: Any, **facts: str | None) -> None:
    """Keep what the record of this request should say: the reason it is refused for, or the token it was given."""
    scope.setdefault(_NOTES, {}).update(facts)


def is_worth_a_record(scope: Any, status: int, *, traffic: bool) -> bool:
    """Tell whether a request is a refusal or a change; `traffic` is what banks do all day, and its journal has it."""
    return _refused(scope, status) or (status < 400 and scope["method"] not in _READS and not traffic)


def _refused(scope: Any, status: int) -> bool:
    # A token is refused in the words of OAuth, with 400 where it is for want of a right.
    return status in REFUSALS or scope.get(_NOTES, {}).get("refused") is not None


def record(scope: Any, *, address: str, route: str, status: int) -> None:
    """Write the record of a request that was answered. Never raises."""
    claims, refused = scope.get("auth"), _refused(scope, status)
    facts = {
        "address": address,
        "method": scope["method"],
        "route": route,
        # Of a change it says to what; what was refused may hold anything.
        "path": None if refused else scope["path"],
        "subject": getattr(claims, "sub", None),
        "client": getattr(claims, "client_id", None),
        "role": getattr(claims, "role", None),
        "issuer": getattr(claims, "iss", None),
        "token": getattr(claims, "jti", None),
        **{name: fact for name, fact in scope.get(_NOTES, {}).items() if name != "refused"},
    }
    write("refused" if refused else "changed", status=status, audit_id=correlation.current(), **facts)


def write(event: str, **facts: Any) -> None:
    """Write a record; a fact that isn't known is left out, and a long one is cut."""
    known = {
        name: shown(fact, characters_max=TEXT_CHARACTERS_MAX) if isinstance(fact, str) else fact
        for name, fact in facts.items()
        if fact is not None
    }
    # Past the filter of levels: who wants fewer lines of the others wants these all the same.
    _log.bind()._proxy_to_logger("info", event, **known)
