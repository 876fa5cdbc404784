"""What an act of operators changes from: the values that stand in the registry, for whoever signs "from … to …".

One function says it to the coordinator, which carries out nothing else than what was signed, and to whoever proposes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from compliance.crypto import canonical
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import VerifyingKey
from compliance.decisions import lines
from compliance.statements import Act, ActKind, OperatorKey, OperatorRegister
from gateway.federation.membership.documents import Application
from gateway.federation.messages.limits import BilateralLimitView, CapView, PrefundingView
from gateway.federation.messages.participants import ParticipantView, RulebookView

OF_CLIENTS = frozenset({ActKind.CLIENT_LET_IN, ActKind.CLIENT_REMOVE})
OF_DAYS = frozenset({ActKind.DAY_CLOSE, ActKind.DAY_REOPEN})


def of_client(act: Act, register: Sequence[OperatorKey]) -> dict[str, str]:
    """Return by which role and key an operator or auditor has access now; nothing if he has none."""
    active = (key for key in register if key.name == act.subject and key.status == "active")
    return next(({"role": key.role, "kid": key.kid} for key in active), {})


def of_rulebook(rulebook: RulebookView) -> dict[str, str]:
    """Return the digest of the rulebook that another one takes the place of."""
    return {} if rulebook.sha256 is None else {"sha256": rulebook.sha256}


def of_member(act: Act, member: ParticipantView) -> dict[str, str]:
    """Return the values of a member that an act changes, in the words of its terms; nothing where there are none."""
    match act.kind:
        case ActKind.MEMBER_APPROVE | ActKind.MEMBER_ACTIVATE:
            return {"status": member.status} | {f"{use} key": kids for use, kids in _active_keys(member).items()}
        case ActKind.MEMBER_SUSPEND | ActKind.MEMBER_LEAVE:
            return {"status": member.status}
        case ActKind.KEY_REVOKE:
            return next(({"status": key.status} for key in member.keys if key.kid == act.terms.get("kid")), {})
        case ActKind.KEY_ENROL:
            return _active_keys(member)
        case ActKind.CAP:
            return _at(act, member.caps, "cap_minor")
        case ActKind.PREFUNDING:
            return _at(act, member.prefunding, "prefunded_minor", "reserved_minor")
        case ActKind.BILATERAL_LIMIT:
            counterparty = act.terms.get("counterparty")
            return _at(act, [it for it in member.bilateral_limits if it.counterparty == counterparty], "limit_minor")
        case ActKind.SETTLEMENT_ACCOUNT if member.settlement_account is not None:
            agent, _, account = member.settlement_account.partition("/")
            return {"agent": agent, "account": account}
    return {}


def _active_keys(member: ParticipantView) -> dict[str, str]:
    """Return the ids of a member's active keys by their use."""
    active = [key for key in member.keys if key.status == "active"]
    return {use: " ".join(key.kid for key in active if key.use == use) for use in sorted({key.use for key in active})}


def _at(act: Act, limits: Sequence[CapView | PrefundingView | BilateralLimitView], *names: str) -> dict[str, str]:
    """Return these members of the limit in the currency of an act."""
    of_currency = (limit for limit in limits if limit.currency == act.terms.get("currency"))
    return next(({name: str(getattr(limit, name)) for name in names} for limit in of_currency), {})


def described(act: Act) -> tuple[str, ...]:
    """Return what an act says, for people: of an application the ids of its keys, to be compared by another way."""
    if act.kind is not ActKind.KEY_ENROL:
        return lines(act)
    try:
        envelope = msgspec.json.decode(act.terms.get("application", ""), type=Envelope)
        application = msgspec.json.decode(envelope.payload_bytes(), type=Application)
        offered = {f"{key.use} key": VerifyingKey(key.x).kid for key in application.keys}
    except ValueError:
        return lines(act)
    now = {f"{use} key": kid for use, kid in act.before.items()}
    return lines(replace(act, terms=offered, before=now))


async def with_before(act: Act, get: Callable[[str, type[Any]], Awaitable[Any]]) -> Act:
    """Return an act with what it changes from, as the coordinator tells it; `get` fetches a path from there.

    It is about members by the BICs under which they are registered, however they were spelled.
    """
    if act.kind in OF_DAYS:  # the kind says it: a day is closed that was open, or opened that was closed
        return act
    if act.kind in OF_CLIENTS:
        register = canonical.decode((await get("/operators", Envelope)).payload_bytes(), OperatorRegister)
        return replace(act, before=of_client(act, register.operators))
    if act.kind is ActKind.RULEBOOK_ADOPT:
        return replace(act, before=of_rulebook(await get("/rulebook", RulebookView)))
    member = await get(f"/participants/{act.subject}", ParticipantView)
    terms = act.terms
    if (spelled := terms.get("counterparty")) is not None:
        counterparty = await get(f"/participants/{spelled}", ParticipantView)
        terms = {**terms, "counterparty": counterparty.bic}
    act = replace(act, subject=member.bic, terms=terms)
    return replace(act, before=of_member(act, member))
