"""The agent's books: accounts, fundings, settlements, and what participants are told about them.

Each operation is one transaction. Rows are locked in the order of their ids, so operations on the same accounts
wait for each other and never deadlock; whoever asks the same again gets what was answered the first time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime
from textwrap import wrap
from typing import Any

import asyncpg

from gateway.agent.authority import AuthorityReason, Ruling
from gateway.agent.settlement import (
    Accepted,
    Account,
    Rejected,
    RejectionCode,
    Transfer,
    decide,
    fingerprint,
)
from gateway.federation.iso20022 import Notification, SettlementRequest, notification, status_report
from gateway.federation.iso20022.pacs002 import LINE_CHARACTERS_MAX
from gateway.federation.messages import settlement as api
from gateway.federation.money import EXPONENTS
from gateway.federation.problems import Refusal, RefusalReason
from gateway.federation.storage.failures import Writability

# Taken last by every transaction that notifies, until its commit: notifications become visible in the order of
# their ids, and a reader who asks for what came after an id misses none.
_NOTIFICATION_ORDER = 1
_SENDER_ORDER = 2
"""Of locks on one coordinator's orders."""


class LedgerReason(RefusalReason):
    """Why the agent refuses what its staff or a sender asks for, in order of precedence."""

    ASSERTION_NEEDED = "assertion_needed", 403
    """A participant comes with an assertion of its own, not with a token that the coordinator issued in its name."""
    MEMBER_NOT_ACTIVE = "member_not_active", 403
    """The trust list doesn't name it as active."""
    NOT_YOURS = "not_yours", 403
    """It is another participant's account."""
    CURRENCY_UNKNOWN = "currency_unknown", 422
    ACCOUNT_UNKNOWN = "account_unknown", 404
    ACCOUNT_EXISTS = "account_exists", 409
    IDEMPOTENCY_CONFLICT = "idempotency_conflict", 422
    INSUFFICIENT_FUNDS = "insufficient_funds", 409


@dataclass(frozen=True, slots=True)
class Entry:
    """A journal entry. A settlement names the message id and the cycle behind it."""

    id: int
    kind: str
    value_date: date
    posted_at: datetime
    settlement: str | None = None
    cycle: str | None = None

    @property
    def reference(self) -> str:
        """The agent's own reference, which participants see in the answer and in every notification."""
        return f"{self.kind[0].upper()}{self.id:012}"


class Ledger:
    """The books of the settlement agent `bic`, over connections that work as the application's role."""

    def __init__(self, pool: asyncpg.Pool, bic: str, writability: Writability | None = None) -> None:
        self._pool = pool
        self._bic = bic
        self._writability = writability or Writability()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        """Open a transaction; commit when the block ends, roll back when it raises."""
        with self._writability.noting():
            async with self._pool.acquire() as connection, connection.transaction():
                yield connection

    # --- settlement ---------------------------------------------------------------------------------------

    async def answered(self, request: SettlementRequest) -> bytes | None:
        """Return what was answered to a request, None if it is new. Raises `Refusal`: idempotency_conflict."""
        async with self._transaction() as connection:
            return await self._answered(connection, request, fingerprint(request))

    async def settle(self, ruling: Ruling, evidence: bytes) -> bytes:
        """Settle a request, or reject it, once and for all; return the answer (pacs.002).

        `evidence` is the order as it came, with all signatures. The same request again gets the same bytes. Raises
        `Refusal`: idempotency_conflict when its id was used for something else, operators_refused, edition_superseded,
        cycle_settled.
        """
        request = ruling.request
        digest = fingerprint(request)
        async with self._transaction() as connection:
            # Claims the id. A second message with this id waits here until the first one is answered.
            number = await connection.fetchval(
                "INSERT INTO request (sender, message_id, fingerprint, document, cycle, edition, result, evidence)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING RETURNING number",
                *(request.sender, request.message_id, digest, ruling.document),
                *(request.cycle, ruling.edition, ruling.result_sha256, evidence),
            )
            if number is None:
                earlier = await self._answered(connection, request, digest)
                assert earlier is not None, "a request and its answer come in one transaction"
                return earlier
            if ruling.rejected is None:
                await _require_newest(connection, ruling)
            entry_id, answer = await self._decide(connection, ruling, f"A{number:012}")
            await connection.execute(
                "INSERT INTO answer (sender, message_id, status, entry_id, document) VALUES ($1, $2, $3, $4, $5)",
                *(request.sender, request.message_id, "RJCT" if entry_id is None else "ACSC", entry_id, answer),
            )
        return answer

    async def _answered(self, connection: Any, request: SettlementRequest, digest: str) -> bytes | None:
        row = await connection.fetchrow(
            "SELECT r.fingerprint, a.document FROM request r JOIN answer a USING (sender, message_id)"
            " WHERE r.sender = $1 AND r.message_id = $2",
            *(request.sender, request.message_id),
        )
        if row is None:
            return None
        if row["fingerprint"] != digest:
            detail = f"message id {request.message_id} was used for another request"
            raise Refusal(LedgerReason.IDEMPOTENCY_CONFLICT, detail)
        answer: bytes = row["document"]
        return answer

    async def _decide(self, connection: Any, ruling: Ruling, answer_id: str) -> tuple[int | None, bytes]:
        """Post what the decision says; return the entry, if there is one, and the answer."""
        request = ruling.request
        if ruling.rejected is not None:
            lines = wrap(f"{ruling.rejected.reason}: {ruling.rejected.detail}", LINE_CHARACTERS_MAX)
            dated = ruling.rejected.reason == AuthorityReason.VALUE_DATE_REFUSED
            code = RejectionCode.VALUE_DATE if dated else RejectionCode.NOT_ENTITLED
            outcome: Accepted | Rejected = Rejected(code, tuple(lines))
        else:
            # Nobody moves the central accounts by a settlement, so the agent itself is no participant.
            named = [(m.participant, m.currency) for m in request.movements if m.participant != self._bic]
            outcome = decide(request, await _lock(connection, named))
        at = await connection.fetchval("SELECT clock_timestamp()")
        if isinstance(outcome, Rejected):
            return None, status_report(
                message_id=answer_id,
                created_at=at,
                request=request,
                status="RJCT",
                reason_code=outcome.code,
                reason_text="\n".join(outcome.lines),
            )
        cause = f"settlement:{request.sender}:{request.message_id}"
        entry_id = await _enter(connection, "settlement", cause, request.value_date, at, request.sender)
        assert entry_id is not None, "who claimed the message id is the first to post it"
        entry = Entry(entry_id, "settlement", request.value_date, at, request.message_id, request.cycle)
        await _claim_cycle(connection, request, entry_id)
        await self._post(connection, entry, outcome.transfers)
        return entry.id, status_report(
            message_id=answer_id,
            created_at=at,
            request=request,
            status="ACSC",
            reference=entry.reference,
            settled_at=at,
        )

    async def _post(self, connection: Any, entry: Entry, transfers: Sequence[Transfer]) -> dict[int, int]:
        """Post transfers between locked accounts, all debits before any credit, and notify their owners.

        Return the balance of each account after the entry.
        """
        rows = await connection.fetch(
            "INSERT INTO posting (entry_id, account_id, currency, amount)"
            " SELECT $1, t.account_id, t.currency, t.amount"
            " FROM unnest($2::bigint[], $3::text[], $4::bigint[]) AS t (account_id, currency, amount)"
            " ORDER BY t.amount > 0, t.account_id RETURNING account_id, version, balance",
            entry.id,
            [transfer.account.id for transfer in transfers],
            [transfer.account.currency for transfer in transfers],
            [transfer.amount for transfer in transfers],
        )
        versions = {row["account_id"]: row["version"] for row in rows}
        notified = [transfer for transfer in transfers if transfer.account.participant != self._bic]
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _NOTIFICATION_ORDER)
        await connection.executemany(
            "INSERT INTO notification (participant, account_id, version, document) VALUES ($1, $2, $3, $4)",
            [
                (t.account.participant, t.account.id, versions[t.account.id], self._notice(entry, t, versions))
                for t in notified
            ],
        )
        return {row["account_id"]: row["balance"] for row in rows}

    def _notice(self, entry: Entry, transfer: Transfer, versions: dict[int, int]) -> bytes:
        account = transfer.account
        return notification(
            Notification(
                message_id=f"N{account.id}-{versions[account.id]}",
                created_at=entry.posted_at,
                sender=self._bic,
                participant=account.participant,
                account=f"{account.participant}-{account.currency}",
                sequence=versions[account.id],
                currency=account.currency,
                amount=transfer.amount,
                reference=entry.reference,
                booked_at=entry.posted_at,
                value_date=entry.value_date,
                settlement=entry.settlement,
                cycle=entry.cycle,
            )
        )

    # --- accounts and funding -----------------------------------------------------------------------------

    async def open_account(self, opening: api.AccountOpening, *, by: str) -> api.SettlementAccountView:
        """Open a participant's account; the same opening again returns the account as it is.

        Raises `Refusal`: currency_unknown, account_exists (with another overdraft limit).
        """
        if opening.currency not in EXPONENTS:
            raise Refusal(LedgerReason.CURRENCY_UNKNOWN, "not an active ISO 4217 currency")
        limit = int(opening.overdraft_limit_minor)
        insert = (
            "INSERT INTO account (kind, participant, currency, overdraft_limit, opened_by)"
            " VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING"
        )
        async with self._transaction() as connection:
            await connection.execute(insert, "central", self._bic, opening.currency, 0, by)
            await connection.execute(insert, "participant", opening.participant, opening.currency, limit, by)
            row = await connection.fetchrow(
                "SELECT * FROM account WHERE participant = $1 AND currency = $2", opening.participant, opening.currency
            )
        if row["kind"] != "participant" or row["overdraft_limit"] != limit:
            raise Refusal(LedgerReason.ACCOUNT_EXISTS, "the account exists, with other terms")
        return _view(row)

    async def fund(self, participant: str, funding: api.Funding, *, by: str) -> api.FundingReceipt:
        """Move central money to a participant's account, or back; the same funding again returns its receipt.

        Raises `Refusal`: account_unknown, idempotency_conflict, insufficient_funds.
        """
        amount = int(funding.amount_minor)
        async with self._transaction() as connection:
            at = await connection.fetchval("SELECT clock_timestamp()")
            entry_id = await _enter(connection, "funding", f"funding:{funding.id}", at.date(), at, by)
            if entry_id is None:
                return await self._funded(connection, participant, funding)
            accounts = await _lock(connection, [(participant, funding.currency), (self._bic, funding.currency)])
            by_owner = {account.participant: account for account in accounts}
            if participant == self._bic or participant not in by_owner:
                detail = f"{participant} has no account in {funding.currency}"
                raise Refusal(LedgerReason.ACCOUNT_UNKNOWN, detail)
            account = by_owner[participant]
            if account.balance + amount < -account.overdraft_limit and amount < 0:
                raise Refusal(LedgerReason.INSUFFICIENT_FUNDS, "the account has not that much to give back")
            entry = Entry(entry_id, "funding", at.date(), at)
            transfers = (Transfer(account, amount), Transfer(by_owner[self._bic], -amount))
            balances = await self._post(connection, entry, transfers)
        return api.FundingReceipt(id=funding.id, reference=entry.reference, balance_minor=str(balances[account.id]))

    async def _funded(self, connection: Any, participant: str, funding: api.Funding) -> api.FundingReceipt:
        row = await connection.fetchrow(
            "SELECT e.id, e.value_date, e.posted_at, p.amount, p.balance, a.participant, a.currency"
            " FROM entry e JOIN posting p ON p.entry_id = e.id JOIN account a ON a.id = p.account_id"
            " WHERE e.cause = $1 AND a.kind = 'participant'",
            f"funding:{funding.id}",
        )
        terms = (participant, funding.currency, int(funding.amount_minor))
        if (row["participant"], row["currency"], row["amount"]) != terms:
            raise Refusal(LedgerReason.IDEMPOTENCY_CONFLICT, "this id was used for another funding")
        entry = Entry(row["id"], "funding", row["value_date"], row["posted_at"])
        return api.FundingReceipt(id=funding.id, reference=entry.reference, balance_minor=str(row["balance"]))

    # --- reading ------------------------------------------------------------------------------------------

    async def accounts(self, participant: str | None = None) -> tuple[api.SettlementAccountView, ...]:
        """Return the accounts of one participant, or of all, in order of participant and currency."""
        rows = await self._pool.fetch(
            "SELECT * FROM account WHERE kind = 'participant' AND ($1::text IS NULL OR participant = $1)"
            " ORDER BY participant, currency",
            participant,
        )
        return tuple(_view(row) for row in rows)

    async def notifications(self, participant: str, *, after: int, limit: int) -> api.SettlementNotifications:
        """Return what a participant was notified of after a cursor, oldest first."""
        rows = await self._pool.fetch(
            "SELECT id, document FROM notification WHERE participant = $1 AND id > $2 ORDER BY id LIMIT $3",
            *(participant, after, limit),
        )
        listed = tuple(
            api.SettlementNotification(id=row["id"], document=row["document"].decode("utf-8")) for row in rows
        )
        return api.SettlementNotifications(notifications=listed, next=listed[-1].id if listed else after)


async def _require_newest(connection: Any, ruling: Ruling) -> None:
    """Refuse what was signed before something that this agent has seen since. Raises Refusal.

    One order of a coordinator after another: who comes second sees what the first one left.
    """
    request, register = ruling.request, ruling.operators
    await connection.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", _SENDER_ORDER, request.sender)
    if register is not None:
        newest = await connection.fetchrow(
            "SELECT version, sha256 FROM operator_register WHERE coordinator = $1 ORDER BY version DESC LIMIT 1",
            request.sender,
        )
        seen = (0, None) if newest is None else (newest["version"], newest["sha256"])
        if register.version < seen[0] or (register.version == seen[0] and ruling.operators_sha256 != seen[1]):
            detail = f"version {register.version} of the operators' register, after another version {seen[0]}"
            raise Refusal(AuthorityReason.OPERATORS_REFUSED, detail)
        if register.version == seen[0] + 1 and seen[1] is not None and register.supersedes != seen[1]:
            detail = f"version {register.version} of the operators' register doesn't follow the one before"
            raise Refusal(AuthorityReason.OPERATORS_REFUSED, detail)
        await connection.execute(
            "INSERT INTO operator_register (coordinator, version, sha256) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            *(request.sender, register.version, ruling.operators_sha256),
        )
    later = await connection.fetchval(
        "SELECT max(edition) FROM request WHERE sender = $1 AND cycle = $2", request.sender, request.cycle
    )
    if later > ruling.edition:
        detail = f"edition {later} of the result of {request.cycle} was here before edition {ruling.edition}"
        raise Refusal(AuthorityReason.EDITION_SUPERSEDED, detail)
    if await connection.fetchval(
        "SELECT true FROM settled_cycle WHERE sender = $1 AND cycle = $2", request.sender, request.cycle
    ):
        raise Refusal(AuthorityReason.CYCLE_SETTLED, f"cycle {request.cycle} is settled")


async def _claim_cycle(connection: Any, request: SettlementRequest, entry_id: int) -> None:
    await connection.execute(
        "INSERT INTO settled_cycle (sender, cycle, entry_id) VALUES ($1, $2, $3)",
        *(request.sender, request.cycle, entry_id),
    )


async def _lock(connection: Any, named: Iterable[tuple[str, str]]) -> list[Account]:
    """Lock the accounts of (participant, currency) that exist, in the order of their ids, and return them."""
    keys = list(named)
    rows = await connection.fetch(
        "SELECT id, participant, currency, balance, overdraft_limit FROM account"
        " WHERE (participant, currency) IN (SELECT * FROM unnest($1::text[], $2::text[])) ORDER BY id FOR UPDATE",
        [participant for participant, _ in keys],
        [currency for _, currency in keys],
    )
    return [Account(**row) for row in rows]


async def _enter(
    connection: Any, kind: str, cause: str, value_date: date, posted_at: datetime, posted_by: str
) -> int | None:
    """Begin a journal entry; return its id, or None when its cause already has one."""
    entry_id: int | None = await connection.fetchval(
        "INSERT INTO entry (kind, cause, value_date, posted_at, posted_by) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT DO NOTHING RETURNING id",
        *(kind, cause, value_date, posted_at, posted_by),
    )
    return entry_id


def _view(row: Any) -> api.SettlementAccountView:
    return api.SettlementAccountView(
        participant=row["participant"],
        currency=row["currency"],
        balance_minor=str(row["balance"]),
        overdraft_limit_minor=str(row["overdraft_limit"]),
        version=row["version"],
    )
