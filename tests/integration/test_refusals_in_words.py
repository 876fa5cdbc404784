"""A refusal says in words which member is in the way, what it says, and what is left; a batch's orders too."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from running_banks import RunningBank, Town, order
from running_coordinator import BRAVO
from support import uuid7

from gateway.federation.problems import Refusal
from participants.payments.cancellations import CancellationOutcome, CancellationReason
from participants.payments.disputes import DisputeOutcome, DisputeReason
from participants.payments.holds import HoldOutcome, HoldReason

ID = "0190a7d8-5f3c-7c1e-9a51-3f2b8c6d4e10"
WRONG, SHORT = "DE00370400440532013000", "DE8937040044053201300"


async def detail(bank: RunningBank, path: str, body: Any, code: str) -> str:
    answer = await bank.send("POST", path, body)
    assert answer.json()["code"] == code, answer.text
    return str(answer.json()["detail"])


@pytest.mark.parametrize("outcome", [CancellationOutcome, HoldOutcome, partial(DisputeOutcome, disputed=False)])
def test_each_reason_has_its_words(outcome: Any) -> None:
    kind = {CancellationOutcome: CancellationReason, HoldOutcome: HoldReason}.get(outcome, DisputeReason)
    said = set()
    for reason in kind:
        with pytest.raises(Refusal) as refused:
            outcome(id=ID, reason=reason).or_refuse()
        assert ID in refused.value.detail
        said.add(refused.value.detail)
    assert len(said) == len(kind)


async def accepted(town: Town, amount: int = 100) -> str:
    """Return the id of a payment that BRAVO has accepted of ALPHA."""
    body = order(amount)
    assert (await town.alpha.send("POST", "/payments", body)).status_code == 201
    await town.bravo.until(body["id"], "accepted")
    await town.alpha.until(body["id"], "posted")
    return str(body["id"])


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        (
            {"currency": "USD"},
            "debtor_account_unknown",
            "debtor_account: this bank has no customer's account 'a-1' in USD; each account has one currency",
        ),
        (
            {"creditor_account": WRONG},
            "iban_check_digits_wrong",
            f"creditor_account: '{WRONG}' has check digits that don't go with the rest: something in it was mistyped",
        ),
        (
            {"debtor_account": SHORT},
            "iban_length_wrong",
            f"debtor_account: '{SHORT}' has 21 characters, and an IBAN of DE has 22",
        ),
        (
            {"amount_minor": "999999999999"},
            "insufficient_funds",
            "amount_minor: 999999999999 is more than there is on 'a-1' in EUR",
        ),
        ({"expires_at": "2026-01-01T00:00:00Z"}, "expired", "expires_at: 2026-01-01T00:00:00Z is over"),
        (
            {"creditor_agent": "OTHRXXA0"},
            "creditor_agent_unknown",
            "creditor_agent: OTHRXXA0 is no member of the scheme",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.islower() else "",
)
@pytest.mark.asyncio(loop_scope="module")
async def test_an_order_on_every_way(town: Town, changes: dict[str, str], code: str, said: str) -> None:
    body = order(**changes)
    for plain in (False, True):
        answer = await town.alpha.send("POST", "/payments", body, plain=plain)
        assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (422, code, said)
    for atomic in (False, True):
        batch = {"payments": [body, order(7)], "atomic": atomic, "dry_run": True}
        first, second = (await town.alpha.send("POST", "/payments/batch", batch)).json()["results"]
        assert (first["reason"], first["detail"]) == (code, said)
        assert second.get("detail", "").startswith("another order of the batch") == atomic


@pytest.mark.asyncio(loop_scope="module")
async def test_a_query_that_nobody_knows_on_the_short_way(town: Town) -> None:
    body = order(7)
    for path, said in (("/payments", body), ("/payments/batch", {"payments": [body]})):
        for asked in ("dry_run=true", "x=1", "="):
            answer = await town.alpha.send("POST", f"{path}?{asked}", said)
            assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed"), answer.text
            assert answer.json()["errors"][0]["parameter"] == asked.partition("=")[0]
    assert (await town.alpha.send("GET", f"/payments/{body['id']}")).status_code == 404


@pytest.mark.asyncio(loop_scope="module")
async def test_a_body_where_none_is_taken(town: Town) -> None:
    id_ = await accepted(town)
    path = f"/payments/{id_}/cancellation"
    for said in (b'{"reason":"x"}', b"reason=x", b"[]", b"null"):
        answer = await town.alpha.send("POST", path, said)
        assert answer.status_code == 400, answer.text
        assert answer.json()["errors"] == [
            {"detail": "the body: this operation takes none; leave it out, or send {}", "pointer": ""}
        ]
    for nothing in (None, b"", b"{}", b" {} "):
        answer = await town.alpha.send("POST", path, nothing)
        assert answer.json()["code"] == "payment_answered", answer.text
    assert answer.json()["detail"].endswith("then it can be recalled")
    withdrawn = await town.bravo.send("DELETE", f"/payments/{id_}/dispute", {"reason": "x"})
    assert (withdrawn.status_code, withdrawn.json()["code"]) == (400, "validation_failed")


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_given_back(town: Town) -> None:
    id_ = await accepted(town)
    path = f"/payments/{id_}/return"
    sent = await detail(town.alpha, path, {"id": uuid7()}, "return_of_unknown")
    assert sent == f"payment {id_} isn't an incoming one: this bank sent it, and may recall it"
    part = {"id": uuid7(), "amount_minor": "40"}
    assert (await town.bravo.send("POST", path, part)).status_code == 201
    more = await detail(town.bravo, path, {"id": uuid7(), "amount_minor": "61"}, "return_exceeds")
    assert more == f"amount_minor: 61 is more than the 60 that are left of payment {id_}"
    await town.alpha.until(part["id"], "accepted")
    again = await detail(town.alpha, f"/payments/{part['id']}/return", {"id": uuid7()}, "return_differs")
    assert again == f"returns: payment {part['id']} is a return itself, and isn't returned"
    history = (await town.alpha.get(f"/payments/{id_}"))["history"]
    assert [(one["type"], one["status"]) for one in history] == [
        ("payment.reserved", "reserved"),
        ("payment.posted", "posted"),
        ("payment.returned_in_part", "posted"),
    ]
    rest = {"id": uuid7()}
    assert (await town.bravo.send("POST", path, rest)).status_code == 201
    nothing = await detail(town.bravo, path, {"id": uuid7(), "amount_minor": "1"}, "return_of_unknown")
    assert nothing == f"returns: nothing is left of payment {id_}, whose 100 are given back"
    unlike = order(1, returns=id_, creditor_account="x", currency="EUR", creditor_agent=BRAVO)
    assert "payment" in await detail(town.alpha, "/payments", unlike, "return_of_unknown")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_reason_that_needs_a_text(town: Town) -> None:
    id_, said = await accepted(town), "missing; the reason NARR says that it tells why, so it needs one"
    recalls = f"/payments/{id_}/recalls"
    for path, member in (
        (recalls, "text"),
        (f"{recalls}/{uuid7()}/refusal", "text"),
        (f"/payments/{id_}/return", "remittance"),
    ):
        for told in ({}, {member: "  "}):
            body = {"reason": "NARR", **told} | ({} if path.endswith("refusal") else {"id": uuid7()})
            answer = await town.bravo.send("POST", path, body)
            assert answer.status_code == 400, answer.text
            assert answer.json()["errors"] == [{"detail": f"{member}: {said}", "pointer": f"/{member}"}]
    back = order(1, returns=id_, return_reason="NARR")
    for plain in (False, True):
        answer = await town.bravo.send("POST", "/payments", back, plain=plain)
        assert answer.json()["errors"] == [{"detail": f"remittance: {said}", "pointer": "/remittance"}]


@pytest.mark.asyncio(loop_scope="module")
async def test_recalls(town: Town) -> None:
    id_, first = await accepted(town), uuid7()
    path = f"/payments/{id_}/recalls"
    assert (await town.alpha.send("POST", path, {"id": first, "reason": "DUPL"})).status_code == 201
    second = {"id": uuid7(), "reason": "DUPL"}
    opened = await detail(town.alpha, path, second, "recall_open")
    assert opened == f"recall {first} of payment {id_} waits for its answer, and one is open at a time"
    other = await detail(town.alpha, path, {"id": first, "reason": "TECH"}, "recall_id_reused")
    assert other.startswith(f"id: recall {first} of payment {id_} was another one")
    assert "its sender recalls it" in await detail(town.bravo, path, second, "payment_not_outgoing")
    unposted = order(5, creditor_account="nobody-there")
    assert (await town.alpha.send("POST", "/payments", unposted)).status_code == 201
    await town.alpha.until(unposted["id"], "refused")
    refused = await detail(town.alpha, f"/payments/{unposted['id']}/recalls", second, "payment_not_posted")
    assert refused == f"payment {unposted['id']} is refused: nothing of it was paid"
