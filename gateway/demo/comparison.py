"""What the nodes of two banks find by themselves when a cycle breaks between them."""

from __future__ import annotations

from gateway.demo.desks import BankDesk, DayFailedError
from participants.intake.rows import PaymentRow
from participants.reconciliation.report import Report


class Comparison:
    """The comparison of books after a break that one contested payment made, as the bank that sent it has it."""

    def __init__(self, desk: BankDesk, cycle: str, payment: PaymentRow) -> None:
        self._desk = desk
        self._cycle = cycle
        self._payment = payment
        self._report = Report()

    async def is_done(self) -> bool:
        """Tell whether the books are compared."""
        payment = self._payment
        known = await self._desk.comparison(self._cycle, payment.creditor_bank, payment.currency)
        if known is None or known.state != "done" or known.report is None:
            return False
        self._report = known.report
        return True

    def undone(self) -> str:
        return f"{self._payment.debtor_bank} doesn't compare its books with {self._payment.creditor_bank}"

    def result(self) -> str:
        """Say what was found, and what it cost. Raises DayFailedError for anything but the one payment."""
        payment, cost = self._payment, self._report.cost
        pair = f"{payment.debtor_bank} and {payment.creditor_bank}"
        # What is under way at the moment heals by itself.
        kinds = {item.payment: item.kind for item in self._report.breaks if item.healing is None}
        if kinds != {payment.id: "status"}:
            raise DayFailedError(f"{pair} differ in more or less than payment {payment.id}: {kinds}")
        compared = sum(min(lane.here, lane.there) for lane in self._report.lanes)
        return (
            f"{pair} compare {compared:,} payments and find the one that differs: "
            f"{cost.sent_bytes + cost.received_bytes:,} bytes, {cost.questions} questions, {cost.seconds:.2f} s"
        )
