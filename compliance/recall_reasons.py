"""Why a bank asks for a payment back, and why another one doesn't give it: codes of ISO 20022's external code sets.

ExternalCancellationReason1Code and ExternalPaymentCancellationRejection1Code, as far as banks use them between each
other. A code is part of what is signed, so one that isn't here is refused; nothing here follows from one.
"""

from __future__ import annotations

from enum import StrEnum


class RecallReason(StrEnum):
    """Why a payment is recalled."""

    AC03 = "AC03"
    """The creditor's account number is wrong."""
    AGNT = "AGNT"
    """A bank in the payment is the wrong one."""
    AM09 = "AM09"
    """The amount isn't the one that was meant."""
    COVR = "COVR"
    """The cover was given back or recalled."""
    CURR = "CURR"
    """The currency is wrong."""
    CUST = "CUST"
    """The debtor asked for it."""
    CUTA = "CUTA"
    """An investigation that can't be done otherwise asks for it."""
    DUPL = "DUPL"
    """It was paid twice."""
    FRAD = "FRAD"
    """It is, or may be, a fraud."""
    NARR = "NARR"
    """The text says why."""
    SUSP = "SUSP"
    """It is suspected of being a duplicate or an error."""
    SYAD = "SYAD"
    """A system's operator asks for it."""
    TECH = "TECH"
    """A technical problem made it."""
    UPAY = "UPAY"
    """It wasn't due."""


class RecallRefusal(StrEnum):
    """Why a payment that is recalled isn't given back."""

    AC04 = "AC04"
    """The creditor's account is closed."""
    AGNT = "AGNT"
    """The creditor's bank decides against it."""
    AM04 = "AM04"
    """There isn't enough money on the creditor's account."""
    ARDT = "ARDT"
    """It was given back already."""
    CUST = "CUST"
    """The creditor decides against it."""
    INDM = "INDM"
    """The creditor's bank asks for an indemnity first."""
    LEGL = "LEGL"
    """The law doesn't allow it."""
    NARR = "NARR"
    """The text says why."""
    NOAS = "NOAS"
    """The creditor doesn't answer."""
    NOOR = "NOOR"
    """The payment was never received."""
    PTNA = "PTNA"
    """It was passed on to the next bank."""
    RQDA = "RQDA"
    """The creditor's bank asks for an authority to debit first."""
