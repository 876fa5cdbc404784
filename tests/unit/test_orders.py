"""Orders that are put together here are read as strictly as those that are sent."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.federation.problems import Refusal
from participants.ledger import events
from participants.ledger.events import PaymentOrder
from participants.payments.orders import readable

ORDER: dict[str, Any] = {
    "id": "018f5d3e-7a31-7cc2-9d6a-0d2f9a3b7c11", "creditor_agent": "BETAFRPP", "amount_minor": "1050",
    "currency": "EUR", "debtor_account": "a-1", "debtor_name": "Anton", "creditor_account": "b-1",
    "creditor_name": "Berta",
}  # fmt: skip


def test_an_order_is_read_back_with_its_maker() -> None:
    order = PaymentOrder(**ORDER)
    (again,) = readable([order], maker="mona")
    assert events.held_out(again, ()).order == order
    assert events.held_out(again, ()).actor == "mona"


@pytest.mark.parametrize(
    "changes",
    [
        {"amount_minor": "1000000000000000"}, {"amount_minor": 1050}, {"creditor_agent": "betafrpp"},
        {"debtor_name": "\ud800"}, {"remittance": "paid\nback"},
    ],
)  # fmt: skip
def test_what_the_journal_could_not_read_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        readable([PaymentOrder(**ORDER), PaymentOrder(**ORDER | changes)], maker="mona")
    assert refused.value.reason == "order_malformed"
