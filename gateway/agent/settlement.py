"""Whether a request settles: a pure function of the request and the accounts it touches.

All or nothing: a request settles when every participant it debits has the cover before any credit of the same
request, and is rejected as a whole otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from compliance.crypto import canonical
from gateway.federation.iso20022 import SettlementRequest
from gateway.federation.iso20022.values import write_amount


class RejectionCode(StrEnum):
    """Reasons of the ISO 20022 external status reason set, in order of precedence."""

    NOT_ENTITLED = "NARR"
    """The line says why the coordinator isn't entitled to it, by the reasons of `authority.py`."""
    VALUE_DATE = "DT01"
    """The value date isn't the agent's business day."""
    NO_ACCOUNT = "AC01"
    INSUFFICIENT_FUNDS = "AM04"


@dataclass(frozen=True, slots=True)
class Account:
    """A participant's account as it stands, locked by whoever decides."""

    id: int
    participant: str
    currency: str
    balance: int
    overdraft_limit: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """What an account gets (positive) or gives (negative)."""

    account: Account
    amount: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request settles by these transfers, debits first."""

    transfers: tuple[Transfer, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """The request settles nothing. One line for each account at fault."""

    code: RejectionCode
    lines: tuple[str, ...]


def decide(request: SettlementRequest, accounts: Iterable[Account]) -> Accepted | Rejected:
    """Decide a request, whose debits equal its credits, over the accounts that it names.

    A shortfall names every participant that is short, and by how much.
    """
    known = {(account.participant, account.currency): account for account in accounts}
    unknown = [m for m in request.movements if (m.participant, m.currency) not in known]
    if unknown:
        lines = tuple(f"{m.participant} {m.currency}: no account" for m in sorted(unknown))
        return Rejected(RejectionCode.NO_ACCOUNT, lines)
    transfers = [Transfer(known[m.participant, m.currency], m.amount) for m in request.movements]
    short = [transfer for transfer in transfers if _missing(transfer) > 0]
    if short:
        return Rejected(RejectionCode.INSUFFICIENT_FUNDS, tuple(sorted(map(_shortfall, short))))
    return Accepted(tuple(sorted(transfers, key=lambda t: (t.amount > 0, t.account.id))))


def _missing(transfer: Transfer) -> int:
    """Return by how much a debit exceeds the account's cover. A credit never does."""
    if transfer.amount > 0:
        return 0
    return -transfer.amount - transfer.account.balance - transfer.account.overdraft_limit


def _shortfall(transfer: Transfer) -> str:
    currency = transfer.account.currency
    return f"{transfer.account.participant} {currency} short by {write_amount(_missing(transfer), currency)}"


def fingerprint(request: SettlementRequest) -> str:
    """Return the digest of what a request asks for.

    Two messages with one id are the same request when they ask for the same; when they were created, their white
    space and the order of their movements don't count.
    """
    meaning = {
        "sender": request.sender,
        "receiver": request.receiver,
        "message_id": request.message_id,
        "cycle": request.cycle,
        "value_date": request.value_date.isoformat(),
        "movements": [[m.participant, m.currency, str(m.amount)] for m in sorted(request.movements)],
    }
    return canonical.digest(canonical.encode(meaning))
