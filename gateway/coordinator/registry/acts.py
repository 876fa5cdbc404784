"""What two operators change in the registry: each kind of act with its terms, and how it is carried out."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import VerifyingKey
from compliance.cycle.limits import Prefunding
from compliance.statements import (
    BIC_PATTERN,
    CURRENCY_PATTERN,
    Act,
    ActKind,
    Bic,
    CurrencyCode,
    Date,
    KeyId,
    Sha256,
    TotalAmount,
)
from gateway.coordinator.registry import members, operators, rulebooks
from gateway.coordinator.registry.lifecycle import RegistryReason, Step
from gateway.coordinator.registry.registry import Registry
from gateway.federation.membership.before import OF_CLIENTS, OF_DAYS, of_client, of_member, of_rulebook
from gateway.federation.membership.documents import SettlementAccount
from gateway.federation.messages.participants import RulebookView
from gateway.federation.problems import Refusal

CLIENT_PATTERN = r"[a-z][a-z0-9._-]{0,63}"
"""Small Latin letters only: no name can be spelled in two ways or two scripts."""


class _Terms(Struct, frozen=True, forbid_unknown_fields=True):
    """What an act says besides its subject."""


class _Nothing(_Terms, frozen=True):
    pass


class _Cap(_Terms, frozen=True):
    """The most that a participant may owe net in a currency."""

    currency: CurrencyCode
    cap_minor: TotalAmount


class _Prefunding(_Terms, frozen=True):
    """What a participant prefunded, and how much of that is kept back."""

    currency: CurrencyCode
    prefunded_minor: TotalAmount
    reserved_minor: TotalAmount = "0"


class _BilateralLimit(_Terms, frozen=True):
    """Without a limit, the one that there is is lifted."""

    counterparty: Bic
    currency: CurrencyCode
    limit_minor: TotalAmount | None = None


class _RevokedKey(_Terms, frozen=True):
    """The id of a key that verifies nothing from now on."""

    kid: KeyId


class _Enrolment(_Terms, frozen=True):
    """An application as JSON text: its signer, whose key ids operators compare with the bank by another way."""

    application: str


class _Client(_Terms, frozen=True):
    """`operator` or `auditor`, and the public key, as `concordat decide key` prints it."""

    role: Literal["operator", "auditor"]
    x: str


class _NewRulebook(_Terms, frozen=True):
    """Its digest, which `concordat coordinator rulebook` prints of a file, so that each operator reads his own copy."""

    sha256: Sha256
    version: Annotated[str, Meta(min_length=1, max_length=64)]


class _Day(_Terms, frozen=True):
    """A value date to come, on which no cycle took the currency in."""

    day: Date


@dataclass(frozen=True, kw_only=True)
class Warrant:
    """By whom and why something is done: who proposed and who confirmed it."""

    maker: str
    checker: str
    reason: str

    @property
    def by(self) -> str:
        return f"{self.maker}, {self.checker}"


_Carry = Callable[[Registry, str, Any, Warrant], Awaitable[Any]]


def _step(step: Step) -> _Carry:
    return lambda registry, bic, _, by: registry.step(bic, step, by=by.by, reason=by.reason)


async def _cap(registry: Registry, bic: str, terms: _Cap, by: Warrant) -> None:
    await registry.set_cap(bic, terms.currency, int(terms.cap_minor), by=by.by, reason=by.reason)


async def _prefunding(registry: Registry, bic: str, terms: _Prefunding, by: Warrant) -> None:
    prefunding = Prefunding(
        participant=bic,
        currency=terms.currency,
        prefunded_minor=terms.prefunded_minor,
        reserved_minor=terms.reserved_minor,
    )
    await registry.set_prefunding(prefunding, by=by.by, reason=by.reason)


async def _bilateral_limit(registry: Registry, bic: str, terms: _BilateralLimit, by: Warrant) -> None:
    limit = None if terms.limit_minor is None else int(terms.limit_minor)
    await registry.set_bilateral_limit(bic, terms.counterparty, terms.currency, limit, by=by.by, reason=by.reason)


async def _settlement_account(registry: Registry, bic: str, terms: SettlementAccount, by: Warrant) -> None:
    await registry.set_settlement_account(bic, terms, by=by.by, reason=by.reason)


async def _revoke(registry: Registry, bic: str, terms: _RevokedKey, by: Warrant) -> None:
    await registry.revoke_key(bic, terms.kid, by=by.by, reason=by.reason)


async def _enrol(registry: Registry, bic: str, terms: _Enrolment, by: Warrant) -> None:
    try:
        application = msgspec.json.decode(terms.application, type=Envelope)
    except msgspec.MsgspecError as error:
        raise Refusal(RegistryReason.ACT_MALFORMED, f"application: {error}", pointer="/act/terms") from error
    await registry.enrol_key(bic, application, by=by.by, reason=by.reason)


async def _rulebook(registry: Registry, bic: str, terms: _NewRulebook, by: Warrant) -> None:
    await registry.agree_on_rulebook(bic, terms.sha256, terms.version, by=by.by, reason=by.reason)


async def _let_in(registry: Registry, name: str, terms: _Client, by: Warrant) -> None:
    await registry.add_client(name, terms.role, terms.x, by=by.by, reason=by.reason)


async def _remove(registry: Registry, name: str, _: _Nothing, by: Warrant) -> None:
    await registry.remove_client(name, by=by.by, reason=by.reason)


async def _close_day(registry: Registry, currency: str, terms: _Day, by: Warrant) -> None:
    await registry.close_day(currency, _date(terms.day), by=by.by, reason=by.reason)


async def _reopen_day(registry: Registry, currency: str, terms: _Day, by: Warrant) -> None:
    await registry.reopen_day(currency, _date(terms.day), by=by.by, reason=by.reason)


def _date(day: str) -> date:
    try:
        return date.fromisoformat(day)
    except ValueError as error:
        raise Refusal(RegistryReason.ACT_MALFORMED, f"day: {error}", pointer="/act/terms") from error


ACTS: Mapping[ActKind, tuple[type[Any], _Carry]] = {
    ActKind.MEMBER_APPROVE: (_Nothing, _step(Step.APPROVE)),
    ActKind.MEMBER_ACTIVATE: (_Nothing, _step(Step.ACTIVATE)),
    ActKind.MEMBER_SUSPEND: (_Nothing, _step(Step.SUSPEND)),
    ActKind.MEMBER_LEAVE: (_Nothing, _step(Step.LEAVE)),
    ActKind.KEY_REVOKE: (_RevokedKey, _revoke),
    ActKind.KEY_ENROL: (_Enrolment, _enrol),
    ActKind.CAP: (_Cap, _cap),
    ActKind.PREFUNDING: (_Prefunding, _prefunding),
    ActKind.BILATERAL_LIMIT: (_BilateralLimit, _bilateral_limit),
    ActKind.SETTLEMENT_ACCOUNT: (SettlementAccount, _settlement_account),
    ActKind.RULEBOOK_ADOPT: (_NewRulebook, _rulebook),
    ActKind.CLIENT_LET_IN: (_Client, _let_in),
    ActKind.CLIENT_REMOVE: (_Nothing, _remove),
    ActKind.DAY_CLOSE: (_Day, _close_day),
    ActKind.DAY_REOPEN: (_Day, _reopen_day),
}
"""Another kind of change is a line here and a member of `ActKind`."""


class RegistryActs:
    """Tries and does what operators decide, in the transaction of their decision."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def require_possible(self, conn: AsyncConnection, act: Act) -> None:
        """Refuse what couldn't be done now: it is tried, and undone. Raises Refusal."""
        trial = await conn.begin_nested()
        try:
            await self.carry_out(conn, act, Warrant(maker="nobody", checker="nobody", reason="a trial"))
        finally:
            await trial.rollback()

    async def carry_out(self, conn: AsyncConnection, act: Act, by: Warrant) -> None:
        """Do it, from what it says that it changes from. Raises Refusal."""
        terms, carry = _terms_of(act)
        stood = await _before(conn, act)
        await carry(self._registry.within(conn), act.subject, terms, by)
        if act.before != stood:
            detail = f"it is signed as a change from {act.before or 'nothing'}, and there is {stood or 'nothing'}"
            raise Refusal(RegistryReason.BEFORE_DIFFERS, detail, pointer="/act/before")

    def done(self) -> None:
        """Let it be known that what was carried out has been committed."""
        self._registry.changed()


async def _before(conn: AsyncConnection, act: Act) -> dict[str, str]:
    """Return what stands in the place of what an act sets; nobody changes a member meanwhile."""
    if act.kind in OF_CLIENTS:
        return of_client(act, await operators.listed(conn))
    if act.kind is ActKind.RULEBOOK_ADOPT:
        return of_rulebook(RulebookView(sha256=await rulebooks.next_sha256(conn)))
    if act.kind in OF_DAYS:
        return {}
    if await members.find(conn, act.subject, lock=True) is None:
        return {}
    return of_member(act, await members.view(conn, act.subject))


def _terms_of(act: Act) -> tuple[Any, _Carry]:
    """Return what an act says and how it is done. Raises Refusal `act_malformed`."""
    if act.kind not in ACTS:
        raise Refusal(RegistryReason.ACT_MALFORMED, f"{act.kind} isn't proposed here", pointer="/act/kind")
    pattern = BIC_PATTERN
    if act.kind in OF_CLIENTS:
        pattern = CLIENT_PATTERN
    elif act.kind in OF_DAYS:
        pattern = CURRENCY_PATTERN
    if re.fullmatch(pattern, act.subject) is None:
        raise Refusal(RegistryReason.ACT_MALFORMED, f"{act.kind} of {act.subject!r}", pointer="/act/subject")
    kind, carry = ACTS[act.kind]
    try:
        terms = msgspec.convert(act.terms, kind)
        if isinstance(terms, _Client):
            VerifyingKey(terms.x)
    except ValueError as error:
        raise Refusal(RegistryReason.ACT_MALFORMED, f"{act.kind}: {error}", pointer="/act/terms") from error
    return terms, carry
