"""The registry: who is a member, in which state, with which keys, settlement account and limits.

Every change is an event; one that members must know publishes a new version of the trust list. Both happen in the
transaction of the change.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date, timedelta
from typing import Any, Literal

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from compliance.bic import HEAD_OFFICE, known_as, normal_bic
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import Signer, VerifyingKey
from compliance.cycle.limits import Prefunding
from gateway.coordinator import clock
from gateway.coordinator.clock import timestamp
from gateway.coordinator.log import events
from gateway.coordinator.registry import (
    clients,
    closed_days,
    invitations,
    limits,
    members,
    operators,
    rulebooks,
    trust_list,
)
from gateway.coordinator.registry.applications import read_application, read_key_change
from gateway.coordinator.registry.lifecycle import RegistryReason, Status, Step, next_status, require_complete
from gateway.coordinator.registry.members import MemberRecord, SettlementAgent
from gateway.coordinator.rulebook import Rulebook
from gateway.federation.membership.documents import Application, SettlementAccount
from gateway.federation.messages.calendar import CalendarView, ClosedDay
from gateway.federation.messages.limits import ExposureLimitsView, SchemeLimitView
from gateway.federation.messages.participants import InvitationView, ParticipantView, RulebookView
from gateway.federation.problems import Refusal
from gateway.federation.signers.signing import signing
from gateway.federation.storage.database import transaction

# Whoever holds the keys of a suspended member may be the reason for it; who left changes nothing any more.
KEYS_CHANGE_IN = frozenset({Status.APPROVED, Status.ACTIVE})
# New keys by the word of operators, who know the member by other ways than its keys.
ENROLS_IN = frozenset({Status.APPROVED, Status.ACTIVE, Status.SUSPENDED})


USES = ("auth", "sign", "token")


class Registry:
    """Loads, lets `lifecycle` decide, stores and publishes. Every method is one transaction."""

    def __init__(self, engine: AsyncEngine, *, signer: Signer, issuer: str, rulebook: Rulebook) -> None:
        self._engine = engine
        self._signer = signer
        self._issuer = issuer
        self._rulebook = rulebook
        self.changed: Callable[[], None] = lambda: None
        """Called when a change of who has access has been committed."""
        self._conn: AsyncConnection | None = None

    def within(self, conn: AsyncConnection) -> Registry:
        """Return the registry at work in a transaction of the caller's."""
        inner = copy.copy(self)
        inner._conn = conn
        return inner

    # --- reading

    async def page(self, *, after: str, limit: int) -> tuple[ParticipantView, ...]:
        """Return the participants after a BIC, ordered by BIC."""
        async with self._transaction() as conn:
            return await members.page(conn, after=after, limit=limit)

    async def known_as(self, bic: str) -> str:
        """Return the BIC under which the registry has, or would have, the institution of a BIC as people spell it."""
        normal = normal_bic(bic)
        async with self._transaction() as conn:
            return known_as(normal, await members.named(conn, normal, normal + HEAD_OFFICE))

    async def view(self, bic: str) -> ParticipantView:
        """Return one participant; raises Refusal `participant_unknown`."""
        async with self._transaction() as conn:
            return await members.view(conn, bic)

    async def trust_list(self, *, dated: bool = True) -> Envelope:
        """Return the signed trust list in force, with the times of keys or in the form of 0.1, without."""
        async with self._transaction() as conn:
            in_force = await trust_list.current(conn, dated=dated)
        if in_force is None:
            raise Refusal(RegistryReason.TRUST_LIST_MISSING, "the coordinator isn't initialised")
        return in_force

    async def trust_list_confirmation(self) -> Envelope:
        """Return the coordinator's word that the trust list in force is the newest."""
        newest = await self.trust_list()
        return await signing(lambda: trust_list.confirm(newest, self._signer), self._signer)

    async def settlement_agent(self) -> SettlementAgent | None:
        """Return the settlement agent with its active `sign` keys, if one is active."""
        async with self._transaction() as conn:
            agent = await members.settlement_agent(conn)
            if agent is None:
                return None
            return SettlementAgent(bic=agent.bic, url=agent.url, keys=await members.keys(conn, agent.bic, "sign"))

    # --- the institution itself

    async def apply(self, envelope: Envelope) -> ParticipantView:
        """Take in an application, signed by the `sign` key that it offers, of a bank that was invited."""
        application = read_application(envelope, self._signer.scheme)
        async with self._transaction() as conn:
            await invitations.use_up(conn, application.bic, application.invitation)
            await self._enrol(conn, application, kind="participant")
            await events.append(conn, "participant.changed", _change(application.bic, None, Status.APPLIED))
            return await members.view(conn, application.bic)

    async def change_key(self, bic: str, envelope: Envelope, *, caller: str) -> ParticipantView:
        """Add a key to a member or replace one, as the member signed it."""
        if caller != bic:
            raise Refusal(RegistryReason.NOT_YOURS, "a member changes its own keys only")
        async with self._publishing() as conn:
            member = await members.require(conn, bic, lock=True)
            if member.status not in KEYS_CHANGE_IN:
                raise Refusal(RegistryReason.MEMBER_INACTIVE, f"{bic} is {member.status}")
            change = read_key_change(
                envelope, member=bic, active=await members.keys(conn, bic, "sign", scheme=self._signer.scheme)
            )
            if change.replaces is not None:
                await members.retire_key(conn, bic, change.use, change.replaces)
            kid = await members.add_key(conn, bic, change.use, change.x)
            data = {"bic": bic, "change": "key", "use": change.use, "kid": kid, "replaces": change.replaces}
            await events.append(conn, "participant.changed", data)
            return await members.view(conn, bic)

    async def exposure_limits(self, bic: str) -> ExposureLimitsView:
        """Return what others may owe a participant before it is settled."""
        defaults = sorted(self._rulebook.exposure.default_minor.items())
        async with transaction(self._engine) as conn:
            own = await limits.views(conn, [bic])
        return ExposureLimitsView(
            scheme=tuple(SchemeLimitView(currency=currency, limit_minor=minor) for currency, minor in defaults),
            granted=tuple(own[bic].bilateral),
        )

    # --- operators

    async def invite(self, bic: str, *, by: str, reason: str) -> InvitationView:
        """Make the code by which a bank may apply once; raises Refusal `participant_exists`.

        An earlier code counts no more. The code isn't kept: whoever loses it is invited again.
        """
        async with self._transaction() as conn:
            known = await members.find(conn, bic)
            if known is not None and (known.kind != "participant" or known.status is not Status.LEFT):
                raise Refusal(RegistryReason.PARTICIPANT_EXISTS, f"{bic} is {known.status}")
            code, expires_at = await invitations.invite(conn, bic)
            expiry = timestamp(expires_at)
            await events.acted(conn, by, "invite", bic, reason, expires_at=expiry)
        return InvitationView(bic=bic, code=code, expires_at=expiry)

    async def revoke_key(self, bic: str, kid: str, *, by: str, reason: str) -> ParticipantView:
        """Take a key from a member at once: from now on it verifies nothing. Raises Refusal `key_unknown`.

        To be called with the word of two operators.
        """
        async with self._publishing() as conn:
            await self._require_not_coordinator(conn, bic)
            use = await members.revoke_key(conn, bic, kid)
            data = {"bic": bic, "change": "key", "use": use, "kid": kid, "replaces": None, "revoked": True}
            await events.append(conn, "participant.changed", data)
            await events.acted(conn, by, "revoke_key", bic, reason, kid=kid, use=use)
            return await members.view(conn, bic)

    async def enrol_key(self, bic: str, envelope: Envelope, *, by: str, reason: str) -> ParticipantView:
        """Give a member that lost its keys, or had them stolen, those of a new application, in the place of all others.

        To be called with the word of two operators, who have compared the key ids with the bank by another way.
        """
        application = read_application(envelope, self._signer.scheme)
        if application.bic != bic:
            raise Refusal(RegistryReason.NOT_YOURS, f"the application is {application.bic}'s", pointer="/bic")
        async with self._publishing() as conn:
            member = await self._require_not_coordinator(conn, bic)
            if member.status not in ENROLS_IN:
                raise Refusal(RegistryReason.MEMBER_INACTIVE, f"{bic} is {member.status}")
            retired = await members.retire_all(conn, bic, [key.use for key in application.keys])
            kids = [await members.add_key(conn, bic, key.use, key.x) for key in application.keys]
            for key, kid in zip(application.keys, kids, strict=True):
                data = {"bic": bic, "change": "key", "use": key.use, "kid": kid, "replaces": None}
                await events.append(conn, "participant.changed", data)
            await events.acted(conn, by, "enrol_key", bic, reason, kids=kids, retired=retired)
            return await members.view(conn, bic)

    async def step(self, bic: str, step: Step, *, by: str, reason: str) -> ParticipantView:
        """Move a participant along its life cycle; raises Refusal for a step that its state doesn't allow.

        An applicant that is let go leaves nothing behind, and members hear nothing of it.
        """
        if step is Step.LEAVE and (refused := await self._refuse_applicant(bic, by=by, reason=reason)) is not None:
            return refused
        async with self._publishing() as conn:
            await self._step(conn, bic, step, by=by, reason=reason)
            return await members.view(conn, bic)

    async def set_cap(self, bic: str, currency: str, cap_minor: int, *, by: str, reason: str) -> ParticipantView:
        """Set a net debit cap; it counts from the next netting on."""
        self._require_cleared(currency)
        async with self._transaction() as conn:
            await self._require_participant(conn, bic)
            await self._set_cap(conn, bic, currency, cap_minor, by=by, reason=reason)
            return await members.view(conn, bic)

    async def set_prefunding(self, prefunding: Prefunding, *, by: str, reason: str) -> ParticipantView:
        """Set what a participant prefunded; it counts from the next netting on."""
        bic = prefunding.participant
        self._require_cleared(prefunding.currency)
        async with self._transaction() as conn:
            await self._require_participant(conn, bic)
            await limits.set_prefunding(conn, prefunding)
            terms = {
                "currency": prefunding.currency,
                "prefunded_minor": prefunding.prefunded_minor,
                "reserved_minor": prefunding.reserved_minor,
            }
            await events.append(conn, "prefunding.changed", {"bic": bic, **terms})
            await events.acted(conn, by, "prefunding", bic, reason, **terms)
            return await members.view(conn, bic)

    async def set_bilateral_limit(
        self, bic: str, counterparty: str, currency: str, limit_minor: int | None, *, by: str, reason: str
    ) -> ParticipantView:
        """Set the most that a counterparty may owe a participant net, or lift it; it counts from the next netting."""
        self._require_cleared(currency)
        async with self._transaction() as conn:
            await self._require_participant(conn, bic)
            other = await members.find(conn, counterparty)
            # Who has applied is known to nobody but operators, so the answer is that of one who hasn't.
            if counterparty == bic or other is None or other.kind != "participant" or other.status is Status.APPLIED:
                detail = f"{counterparty} isn't another participant"
                raise Refusal(RegistryReason.PARTICIPANT_UNKNOWN, detail)
            await limits.set_bilateral_limit(conn, bic, counterparty, currency, limit_minor)
            limit = None if limit_minor is None else str(limit_minor)
            terms = {"counterparty": counterparty, "currency": currency, "limit_minor": limit}
            await events.append(conn, "bilateral_limit.changed", {"bic": bic, **terms})
            if by != bic:
                await events.acted(conn, by, "bilateral_limit", bic, reason, **terms)
            return await members.view(conn, bic)

    async def set_settlement_account(
        self, bic: str, settlement: SettlementAccount, *, by: str, reason: str
    ) -> ParticipantView:
        """Set where a participant settles."""
        async with self._transaction() as conn:
            await self._require_participant(conn, bic)
            await members.set_settlement_account(conn, bic, settlement)
            account = f"{settlement.agent}/{settlement.account}"
            await events.acted(conn, by, "settlement_account", bic, reason, account=account)
            return await members.view(conn, bic)

    # --- days

    async def close_day(self, currency: str, day: date, *, by: str, reason: str) -> None:
        """Declare a currency closed on a value date to come. Raises Refusal."""
        async with self._transaction() as conn:
            await self._require_to_come(conn, currency, day)
            why = self._rulebook.days.closed(currency, day)
            if why is not None or not await closed_days.close(conn, currency, day, reason):
                detail = f"{currency} is closed on {day.isoformat()} ({why or closed_days.DECLARED})"
                raise Refusal(RegistryReason.DAY_CLOSED, detail)
            await events.acted(conn, by, "day_close", currency, reason, day=day.isoformat())

    async def reopen_day(self, currency: str, day: date, *, by: str, reason: str) -> None:
        """Take a declaration back. Raises Refusal."""
        async with self._transaction() as conn:
            await self._require_to_come(conn, currency, day)
            if not await closed_days.reopen(conn, currency, day):
                raise Refusal(RegistryReason.DAY_OPEN, f"nobody declared {currency} closed on {day.isoformat()}")
            await events.acted(conn, by, "day_reopen", currency, reason, day=day.isoformat())

    async def calendar(self, days: int) -> CalendarView:
        """Return on which of the days from today on which currencies are closed, and what operators declared."""
        today = self._rulebook.days.today(clock.now())
        async with self._transaction() as conn:
            declared = {(day, currency): why for day, currency, why in await closed_days.declared(conn, today)}
        closed = []
        for day in (today + timedelta(days=n) for n in range(days)):
            by_calendar = self._rulebook.days.closed_of(self._rulebook.currencies, day)
            for currency in sorted(self._rulebook.currencies):
                word = declared.get((day, currency))
                why = by_calendar.get(currency) or (None if word is None else closed_days.DECLARED)
                if why is not None:
                    closed.append(ClosedDay(day=day.isoformat(), currency=currency, why=why, declared=word))
        return CalendarView(
            today=today.isoformat(),
            time_zone=self._rulebook.time_zone,
            calendar=self._rulebook.calendar,
            settlement_systems=self._rulebook.settlement_systems,
            closed=tuple(closed),
        )

    async def _require_to_come(self, conn: AsyncConnection, currency: str, day: date) -> None:
        """Refuse a day that is over or that a cycle counts on; no cycle of that day is cut off meanwhile."""
        self._require_cleared(currency)
        if day < (today := self._rulebook.days.today(clock.now())):
            raise Refusal(RegistryReason.DAY_UNDER_WAY, f"{day.isoformat()} is over: it is {today.isoformat()}")
        if (taken_in := await closed_days.taken_in_by(conn, currency, day)) is not None:
            cycle, final = taken_in
            if final:
                raise Refusal(RegistryReason.DAY_SETTLED, f"cycle {cycle} has settled {currency} for that day")
            detail = f"cycle {cycle} has taken {currency} in: abandon it, or let it settle"
            raise Refusal(RegistryReason.DAY_UNDER_WAY, detail)

    # --- setting up

    async def initialise(self, application: Application) -> None:
        """Enter the coordinator itself, its rulebook and the first trust list; mostly does nothing the second time.

        A new URL is published. Raises Refusal `key_unknown` for other keys than it was founded with: the sign key is
        every member's trust anchor.
        """
        async with self._transaction() as conn:
            known = await members.find(conn, application.bic)
            registered = {use: await members.keys(conn, application.bic, use) for use in ("auth", "sign", "token")}
        if known is None:
            async with self._publishing() as conn:
                await self._enrol(conn, application, kind="coordinator")
                await self._move(conn, application.bic, None, Status.ACTIVE)
        else:
            for key in application.keys:
                if VerifyingKey(key.x).kid not in registered[key.use]:
                    detail = f"the {key.use} key in the keys directory isn't the one that {known.bic} registered"
                    raise Refusal(RegistryReason.KEY_UNKNOWN, detail)
            if known.url != application.url:
                async with self._publishing() as conn:
                    await members.set_url(conn, known.bic, application.url)
                    data = {"bic": known.bic, "change": "url", "url": application.url}
                    await events.append(conn, "participant.changed", data)
        async with self._transaction() as conn:
            undated = await trust_list.current(conn, dated=True) is None
        if undated:
            async with self._publishing():
                pass
        async with self._transaction() as conn:
            await rulebooks.adopt(conn, self._rulebook)
        # A coordinator of before has operators whom no register names yet.
        async with self._transaction() as conn:
            await operators.publish(conn, self._signer)

    async def rulebook(self) -> RulebookView:
        """Return the digest of the rulebook that the coordinator goes by from its next start."""
        async with self._transaction() as conn:
            return RulebookView(sha256=await rulebooks.next_sha256(conn))

    async def agree_on_rulebook(self, bic: str, sha256: str, version: str, *, by: str, reason: str) -> None:
        """Let a rulebook be adopted when the coordinator is next started with it. Raises Refusal."""
        async with self._transaction() as conn:
            if (await members.require(conn, bic)).kind != "coordinator":
                raise Refusal(RegistryReason.PARTICIPANT_UNKNOWN, f"{bic} isn't this coordinator")
            await rulebooks.require_other(conn, sha256)
            await events.acted(conn, by, rulebooks.AGREED, bic, reason, sha256=sha256, version=version)

    async def admit(
        self,
        application: Application,
        *,
        kind: Literal["participant", "agent"],
        caps_minor: dict[str, int],
        by: str,
        reason: str,
    ) -> ParticipantView:
        """Take a member in at once, as an operator at the coordinator's own machine does."""
        for currency in caps_minor:
            self._require_cleared(currency)
        async with self._publishing() as conn:
            await self._enrol(conn, application, kind=kind)
            for currency, cap_minor in sorted(caps_minor.items()):
                await self._set_cap(conn, application.bic, currency, cap_minor, by=by, reason=reason)
            for step in (Step.APPROVE, Step.ACTIVATE):
                await self._step(conn, application.bic, step, by=by, reason=reason)
            return await members.view(conn, application.bic)

    async def add_client(
        self, client_id: str, role: Literal["operator", "auditor"], x: str, *, by: str, reason: str = "let in by key"
    ) -> str:
        """Let an operator or auditor in by a public key, or give a known one a new key; return the key's id."""
        async with self._transaction() as conn:
            kid = await clients.add(conn, client_id, role, x)
            await events.acted(conn, by, "client", client_id, reason, role=role, kid=kid)
            await operators.publish(conn, self._signer)
        self.changed()
        return kid

    async def remove_client(self, client_id: str, *, by: str, reason: str) -> None:
        """Take an operator's or auditor's access away, at once. Raises Refusal."""
        async with self._transaction() as conn:
            await operators.remove(conn, client_id)
            await events.acted(conn, by, "remove_client", client_id, reason)
            await operators.publish(conn, self._signer)
        self.changed()

    async def operators(self) -> Envelope:
        """Return the signed register of operators in force."""
        async with self._transaction() as conn:
            in_force = await operators.current(conn)
        if in_force is None:
            raise Refusal(RegistryReason.TRUST_LIST_MISSING, "the coordinator isn't initialised")
        return in_force

    async def require_founding(self) -> None:
        """Refuse what the machine's own command does once operators run the house. Raises `four_eyes_needed`."""
        async with self._transaction() as conn:
            await operators.require_founding(conn)

    # --- parts of a transaction

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        if self._conn is not None:
            yield self._conn
            return
        async with transaction(self._engine) as conn:
            yield conn

    @asynccontextmanager
    async def _publishing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that ends with a new version of the trust list."""
        async with self._transaction() as conn:
            yield conn
            await trust_list.publish(conn, self._signer, self._issuer)
        self.changed()

    async def _enrol(self, conn: AsyncConnection, application: Application, *, kind: str) -> None:
        await self._require_normal(conn, application.bic)
        record = MemberRecord(
            bic=application.bic, name=application.name, kind=kind, status=Status.APPLIED, url=application.url
        )
        await members.insert(conn, record)
        # A bank that comes back does so with new keys, and may owe nothing until operators have set anew what it may.
        await members.retire_all(conn, application.bic, USES)
        for change, data in await limits.take_back(conn, application.bic):
            await events.append(conn, change, data)
        for key in application.keys:
            await members.add_key(conn, application.bic, key.use, key.x)
        if application.settlement is not None:
            await members.set_settlement_account(conn, application.bic, application.settlement)

    async def _require_normal(self, conn: AsyncConnection, bic: str) -> None:
        """Refuse to have an institution twice, or newly under a BIC that isn't its normal one."""
        normal = normal_bic(bic)
        registered = known_as(normal, await members.named(conn, normal, normal + HEAD_OFFICE))
        if registered not in (bic, normal):
            raise Refusal(RegistryReason.PARTICIPANT_EXISTS, f"{bic} is {registered} here", pointer="/bic")
        if registered != bic:
            raise Refusal(RegistryReason.BIC_NOT_NORMAL, f"{bic} is {normal} in its normal form", pointer="/bic")

    async def _step(self, conn: AsyncConnection, bic: str, step: Step, *, by: str, reason: str) -> None:
        member = await members.require(conn, bic, lock=True)
        if member.kind == "coordinator":
            raise Refusal(RegistryReason.STEP_ILLEGAL, "the coordinator is no participant")
        status = next_status(member.status, step)
        if status is Status.ACTIVE:
            settles = member.kind != "participant" or bic in await members.settlement_accounts(conn)
            require_complete(key_uses=await members.key_uses(conn, bic), settlement_account=settles)
        if status is Status.LEFT and (cycle := await members.cycle_to_settle(conn, bic)) is not None:
            detail = f"{bic} was asked to settle cycle {cycle}: activate it until it has answered"
            raise Refusal(RegistryReason.SETTLEMENT_UNDER_WAY, detail)
        if status is Status.LEFT:
            await members.retire_all(conn, bic, USES)
        await self._move(conn, bic, member.status, status)
        await events.acted(conn, by, str(step), bic, reason)

    async def _refuse_applicant(self, bic: str, *, by: str, reason: str) -> ParticipantView | None:
        """Let an applicant go; None if it isn't one. One that was a member before is what it was."""
        async with self._transaction() as conn:
            applicant = await members.require(conn, bic, lock=True)
            if applicant.status is not Status.APPLIED:
                return None
            former = await trust_list.listed(conn, bic)
            view = msgspec.structs.replace(await members.view(conn, bic), status=Status.LEFT)
            if former is None:
                await members.forget(conn, bic)
            else:
                await members.restore(conn, bic, name=former.name, url=former.url)
            await events.append(conn, "participant.changed", _change(bic, Status.APPLIED, Status.LEFT))
            await events.acted(conn, by, str(Step.LEAVE), bic, reason)
            return view

    async def _require_not_coordinator(self, conn: AsyncConnection, bic: str) -> MemberRecord:
        member = await members.require(conn, bic, lock=True)
        if member.kind == "coordinator":
            raise Refusal(RegistryReason.STEP_ILLEGAL, "the coordinator's keys are every member's trust anchor")
        return member

    async def _move(self, conn: AsyncConnection, bic: str, previous: Status | None, status: Status) -> None:
        await members.set_status(conn, bic, status)
        await events.append(conn, "participant.changed", _change(bic, previous, status))

    async def _require_participant(self, conn: AsyncConnection, bic: str) -> None:
        member = await members.require(conn, bic, lock=True)
        if member.kind != "participant":
            raise Refusal(RegistryReason.PARTICIPANT_UNKNOWN, f"{bic} is no participant")
        if member.status is Status.LEFT:
            raise Refusal(RegistryReason.MEMBER_INACTIVE, f"{bic} has left")

    async def _set_cap(
        self, conn: AsyncConnection, bic: str, currency: str, cap_minor: int, *, by: str, reason: str
    ) -> None:
        await limits.set_cap(conn, bic, currency, cap_minor)
        data = {"bic": bic, "currency": currency, "cap_minor": str(cap_minor)}
        await events.append(conn, "cap.changed", data)
        await events.acted(conn, by, "cap", bic, reason, currency=currency, cap_minor=str(cap_minor))

    def _require_cleared(self, currency: str) -> None:
        if currency not in self._rulebook.currencies:
            raise Refusal(RegistryReason.CURRENCY_UNKNOWN, f"{currency} isn't cleared under this rulebook")


def _change(bic: str, previous: Status | None, status: Status) -> dict[str, Any]:
    return {"bic": bic, "change": "status", "previous": previous, "status": str(status)}
