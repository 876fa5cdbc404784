"""What may be given back of a payment, whole or in part, and what the books say of it then: at both banks the same.

All returns of a payment that haven't failed come to its amount at most, whoever asks for them and at whatever moment:
each is an event of the payment that it gives back, and these follow one another.
"""

from __future__ import annotations

from enum import StrEnum

from gateway.federation.messages.payments import PaymentDetails
from participants.ledger import events
from participants.ledger.books import Books
from participants.ledger.events import PaymentOrder
from participants.ledger.payment import Direction, Payment, Status

RETURNS_MAX = 64
"""Of one payment: whoever looks at it reads all of them."""
RETURNABLE: dict[Direction, Status] = {"in": Status.ACCEPTED, "out": Status.POSTED}
"""How a payment stands of which something may be given back."""


class ReturnFault(StrEnum):
    """Why a payment gives nothing back, in order of precedence."""

    RETURN_OF_UNKNOWN = "return_of_unknown"
    """There is no such payment, or nothing of it is left to give back."""
    RETURN_OF_DETACHED = "return_of_detached"
    """The payment is in a part of the journal that was taken out: attach that, and give it back then."""
    RETURN_DIFFERS = "return_differs"
    """Other accounts, another bank or currency; or it gives back a return."""
    RETURN_EXCEEDS = "return_exceeds"
    """More than is left of it."""
    TOO_MANY_RETURNS = "too_many_returns"
    """It has been given back in 64 parts."""


def return_fault(
    original: Payment | None, details: PaymentDetails, counterparty: str, *, direction: Direction
) -> ReturnFault | None:
    """Return why a payment doesn't give back `original`, which this bank sent ("out") or received ("in"); or None."""
    if original is None or original.direction != direction or original.status is not RETURNABLE[direction]:
        return ReturnFault.RETURN_OF_UNKNOWN
    if not original.is_given_back_by(details, counterparty):
        return ReturnFault.RETURN_DIFFERS
    if int(details.amount_minor) > original.amount - original.returned:
        return ReturnFault.RETURN_EXCEEDS
    if len(original.given_back) >= RETURNS_MAX:
        return ReturnFault.TOO_MANY_RETURNS
    return None


def return_detail(fault: ReturnFault, original: Payment | None, order: PaymentOrder) -> str:
    """Return in words why an order gives back nothing that came in: which member, and what is left."""
    id_ = order.returns
    if fault is ReturnFault.RETURN_OF_DETACHED:
        return f"returns: the events of payment {id_} are archived"
    if original is None:
        return f"returns: this bank has no payment {id_}"
    match fault:
        case ReturnFault.RETURN_OF_UNKNOWN if original.direction == "out":
            return not_incoming(original.id)
        case ReturnFault.RETURN_OF_UNKNOWN if original.status is Status.RETURNED:
            return f"returns: nothing is left of payment {id_}, whose {original.amount} are given back"
        case ReturnFault.RETURN_OF_UNKNOWN:
            return f"returns: payment {id_} is {original.status}, and only an accepted one can be given back"
        case ReturnFault.RETURN_DIFFERS if original.terms.returns is not None:
            return f"returns: payment {id_} is a return itself, and isn't returned"
        case ReturnFault.RETURN_DIFFERS:
            terms = original.terms
            right = {
                "creditor_agent": order.creditor_agent == original.counterparty,
                "currency": order.currency == terms.currency,
                "debtor_account": order.debtor_account == terms.creditor_account,
                "creditor_account": order.creditor_account == terms.debtor_account,
            }
            wrong = ", ".join(member for member, is_right in right.items() if not is_right)
            return f"{wrong}: not those of payment {id_}, the other way round"
        case ReturnFault.RETURN_EXCEEDS:
            left = original.amount - original.returned
            return f"amount_minor: {order.amount_minor} is more than the {left} that are left of payment {id_}"
        case ReturnFault.TOO_MANY_RETURNS:
            return f"returns: payment {id_} has been given back in {RETURNS_MAX} parts"


def not_incoming(payment_id: str) -> str:
    """Return in words why a payment that this bank sent isn't given back by it."""
    return f"payment {payment_id} isn't an incoming one: this bank sent it, and may recall it"


def give_back(books: Books, original: Payment, by: PaymentDetails) -> None:
    """Take down that a payment gives back so much of another one."""
    whole = int(by.amount_minor) == original.amount - original.returned
    returned = events.Returned(by=by.id, amount_minor=by.amount_minor)
    books.advance(original, original.id, "payment.returned" if whole else "payment.returned_in_part", returned)


def fail(books: Books, payment: Payment) -> None:
    """Take down that a payment, if it was a return, gives nothing back after all."""
    terms = payment.terms
    if terms.returns is not None and (original := books.payments.get(terms.returns)) is not None:
        failed = events.Returned(by=payment.id, amount_minor=terms.amount_minor)
        books.advance(original, original.id, "payment.return_failed", failed)
