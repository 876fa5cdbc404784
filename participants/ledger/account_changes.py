"""Blocking, unblocking, closing and renaming accounts."""

from __future__ import annotations

from hashlib import sha256

from compliance.person import one_person
from gateway.federation.problems import RefusalReason
from participants.ledger.account_events import RENAMED, STATE_TYPES, OpenedKind, Renamed, StateChanged
from participants.ledger.accounts import Account, AccountKey, AccountState
from participants.ledger.books import Books
from participants.ledger.command import Command
from participants.proposals import Proposal


class ChangeReason(RefusalReason):
    """Why an account isn't blocked, unblocked, closed or renamed, in order of precedence."""

    ACCOUNT_UNKNOWN = "account_unknown", 404
    ACCOUNT_OF_CHART = "account_of_chart", 409
    """It is an account between banks, which opens by itself and stays as it is."""
    ACCOUNT_CLOSED = "account_closed", 409
    """It is closed for good."""
    ACCOUNT_MOVED = "account_moved", 409
    """Something was changed about it while it was looked at: ask again."""
    BALANCE_NOT_ZERO = "account_balance_not_zero", 409
    PAYMENTS_WAITING = "account_payments_waiting", 409
    """Payments of it wait for the other bank's answer, or before people: they would come back to it, or go on."""
    SECOND_PERSON_MISSING = "unblocking_needs_second_person", 409
    """More could be posted than now: it is proposed, and done once another person asks for the very same."""


class ChangeState(Command[ChangeReason | None]):
    """Block an account, unblock it or close it, or return why not. The state that it has already changes nothing.

    `seen` is the number of its changes when it was looked at: what two people agreed on holds for that.
    """

    def __init__(
        self,
        key: AccountKey,
        state: AccountState,
        *,
        people: tuple[str, ...],
        reason: str,
        seen: int,
    ) -> None:
        self.key = key
        self.state = state
        self.people = people
        self.reason = reason
        self.seen = seen
        # To close it the payments that wait are counted, in the transaction that decides.
        self.assumes_new = state is not AccountState.CLOSED

    def awaited_account(self) -> AccountKey | None:
        return self.key if self.state is AccountState.CLOSED and self.key.kind == "customer" else None

    def account_keys(self, books: Books) -> set[AccountKey]:  # noqa: ARG002
        return {self.key}

    def decide(self, books: Books) -> ChangeReason | None:
        account = books.existing(self.key)
        if account.state is self.state:
            return None
        if (refusal := self._refusal(books, account)) is not None:
            return refusal
        account.state = self.state
        data = StateChanged(
            kind=opened_kind(self.key),
            code=self.key.code,
            currency=self.key.currency,
            people=self.people,
            reason=self.reason,
            state=self.state,
        )
        books.change(account, STATE_TYPES[self.state], data)
        return None

    def _refusal(self, books: Books, account: Account) -> ChangeReason | None:
        if account.state is AccountState.CLOSED:
            return ChangeReason.ACCOUNT_CLOSED
        if self.state is AccountState.CLOSED:
            if account.balance:
                return ChangeReason.BALANCE_NOT_ZERO
            return ChangeReason.PAYMENTS_WAITING if self.awaited_account() and books.awaits(self.key) else None
        if not self.state.loosens(account.state):
            return None
        if account.changes != self.seen:
            return ChangeReason.ACCOUNT_MOVED
        return ChangeReason.SECOND_PERSON_MISSING if one_person(self.people) else None


class Rename(Command[ChangeReason | None]):
    """Give an account another name, or return why not. The journal keeps the ones before."""

    def __init__(self, key: AccountKey, name: str, *, people: tuple[str, ...], reason: str) -> None:
        self.key = key
        self.name = name
        self.people = people
        self.reason = reason

    def account_keys(self, books: Books) -> set[AccountKey]:  # noqa: ARG002
        return {self.key}

    def decide(self, books: Books) -> ChangeReason | None:
        account = books.existing(self.key)
        if account.state is AccountState.CLOSED:
            return ChangeReason.ACCOUNT_CLOSED
        data = Renamed(
            kind=opened_kind(self.key),
            code=self.key.code,
            currency=self.key.currency,
            people=self.people,
            reason=self.reason,
            name=self.name,
        )
        books.change(account, RENAMED, data, name=self.name)
        return None


def unblocking(key: AccountKey, before: AccountState, state: AccountState, changes: int) -> Proposal:
    """Return what somebody proposes who wants more posted to an account; another change of it ends that."""
    subject = f"{key.code} {key.currency}, change {changes + 1}"
    content = {"kind": key.kind, "code": key.code, "currency": key.currency, "from": before.value, "state": state.value}
    return Proposal(subject, sha256(f"{key.kind} {subject}: {state}".encode()).digest(), content)


def opened_kind(key: AccountKey) -> OpenedKind:
    """Return the kind of an account that people open. Raises ValueError for another."""
    if key.kind not in ("customer", "internal"):
        raise ValueError(f"{'/'.join(key)} opens by itself")
    return key.kind
