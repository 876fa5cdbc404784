"""References go with a payment from the order to the receiver's statement; a receiver that knows none loses nothing."""

from __future__ import annotations

import csv
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import pytest
from lxml import etree
from msgspec import Meta
from running_banks import ALPHA, BRAVO, RunningBank, Town, order, terms
from test_accounts import account_id
from test_payments_get_through import until

from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.statements import Bic, CurrencyCode, Document, PaymentAmount, Sha256
from gateway.federation.messages.base import AccountCode, PartyName, Remittance, Uuid
from gateway.federation.messages.payments import PAYMENT_BATCH_TYPE
from gateway.federation.problems import Refusal
from participants.payments.inbound import Inbound

XSD = Path(os.environ.get("CONCORDAT_DATA", "")) / "iso20022" / "xsd" / "camt.053.001.08.xsd"

pytestmark = pytest.mark.asyncio(loop_scope="module")


def said() -> dict[str, str]:
    uetr = str(uuid4())
    return {
        "end_to_end_id": f"E2E {uetr[:8]}", "instruction_id": f"I {uetr[:8]}", "uetr": uetr,
        "expires_at": "2099-12-31T23:59:59Z",
    }  # fmt: skip


async def entry_of(bank: RunningBank, code: str, payment_id: str) -> dict[str, Any]:
    """Return what the statements of today say of a payment, in three forms."""
    path, today = f"/accounts/{await account_id(bank, code)}/statement", str(datetime.now(UTC).date())
    (listed,) = [e for e in (await bank.get(path, date=today))["entries"] if e.get("reference") == payment_id]
    rows = csv.DictReader((await bank.send("GET", f"{path}/csv", params={"date": today})).text.splitlines())
    (row,) = [row for row in rows if row["reference"] == payment_id]
    document = etree.fromstring((await bank.send("GET", f"{path}/camt053", params={"date": today})).content)
    if XSD.exists():
        etree.XMLSchema(etree.parse(XSD)).assertValid(document)
    tx_id = payment_id.replace("-", "")
    (details,) = [one for one in document.iter("{*}TxDtls") if one.findtext("{*}Refs/{*}TxId") == tx_id]
    refs = details.find("{*}Refs")
    assert refs is not None
    given_back = {"returns": "{*}RtrInf/{*}AddtlInf", "return_reason": "{*}RtrInf/{*}Rsn/{*}Cd"}
    assert {member: listed.get(member) for member in given_back} == {
        member: details.findtext(path) for member, path in given_back.items()
    }
    return {
        "json": {member: listed.get(member) for member in ("end_to_end_id", "instruction_id", "uetr")},
        "csv": {member: row[member] for member in ("end_to_end_id", "instruction_id", "uetr")},
        "xml": {
            "end_to_end_id": refs.findtext("{*}EndToEndId"),
            "instruction_id": refs.findtext("{*}InstrId"),
            "uetr": refs.findtext("{*}UETR"),
        },
    }


@pytest.mark.parametrize("plain", [False, True], ids=["short way", "long way"])
async def test_from_the_order_to_the_statement_of_the_receiver(town: Town, plain: bool) -> None:
    await town.alpha.open(code := f"ref-{plain}")
    references = said()
    body = order(5, debtor_account=code, **references)
    assert (await town.alpha.send("POST", "/payments", body, plain=plain)).status_code == 201
    # The very same again is the same; with another reference it is another payment.
    again = await town.alpha.send("POST", "/payments", body, plain=not plain)
    assert (again.status_code, again.headers.get("idempotency-hit")) == (201, "true")
    for member in references:
        other = await town.alpha.send("POST", "/payments", body | {member: said()[member]}, plain=plain)
        without = await town.alpha.send("POST", "/payments", {k: v for k, v in body.items() if k != member})
        assert without.json().get("code") == "id_reused", without.text
        assert member == "expires_at" or other.json()["code"] == "id_reused", other.text
    await town.alpha.until(body["id"], "posted")
    await town.bravo.until(body["id"], "accepted")
    for bank, account in ((town.alpha, code), (town.bravo, "b-1")):
        shown = await bank.get(f"/payments/{body['id']}")
        assert {member: shown.get(member) for member in references} == references
        told = [
            event["payment"]
            for event in (await bank.get("/events", account=account, after=0, limit=1_000))["events"]
            if event.get("payment", {}).get("id") == body["id"]
        ]
        assert told
        assert all({member: event.get(member) for member in references} == references for event in told)
        stated = {member: references[member] for member in ("end_to_end_id", "instruction_id", "uetr")}
        for form, found in (await entry_of(bank, account, body["id"])).items():
            assert found == stated, form


async def test_in_a_batch(town: Town) -> None:
    bodies = [order(1, **said()), order(1), order(1, **said())]
    answer = await town.alpha.send("POST", "/payments/batch", {"payments": bodies})
    assert [one["status"] for one in answer.json()["results"]] == ["reserved"] * 3
    for body in bodies:
        shown = await town.bravo.until(body["id"], "accepted")
        assert shown.get("uetr") == body.get("uetr")


async def test_a_reason_to_give_back_goes_with_a_return_alone(town: Town) -> None:
    wrong = await town.alpha.send("POST", "/payments", order(1, return_reason="AC04"))
    assert (wrong.status_code, wrong.json()["code"]) == (400, "validation_failed"), wrong.text
    # Another bank may sign it even so: that one is declined, and the rest of its batch taken.
    odd, good = terms(1, return_reason="AC04"), terms(1)
    answer = await town.deliver(town.sealed(odd, good))
    assert answer.status_code == 200, answer.text
    states = [(await town.bravo.get(f"/payments/{one.id}"))["status"] for one in (odd, good)]
    assert states == ["declined", "accepted"]
    assert (await town.bravo.get(f"/payments/{odd.id}"))["reason"] == "return_of_unknown"
    body = order(3)
    await town.alpha.send("POST", "/payments", body)
    await town.bravo.until(body["id"], "accepted")
    back = order(
        3, creditor_agent=ALPHA, debtor_account="b-1", creditor_account="a-1", returns=body["id"], return_reason="CUST"
    )
    taken = await town.bravo.send("POST", "/payments", back)
    assert taken.status_code == 201, taken.text
    assert (await town.alpha.until(back["id"], "accepted"))["return_reason"] == "CUST"
    assert await entry_of(town.alpha, "a-1", back["id"])


class EarlierTerms(Document, frozen=True, kw_only=True):
    """A payment's terms as the release before reads them."""

    id: Uuid
    amount_minor: PaymentAmount
    currency: CurrencyCode
    debtor_account: AccountCode
    debtor_name: PartyName
    creditor_account: AccountCode
    creditor_name: PartyName
    remittance: Remittance = ""
    returns: Uuid | None = None


class EarlierBatch(Document, frozen=True, kw_only=True):
    sender: Bic
    receiver: Bic
    root: Sha256
    payments: Annotated[tuple[EarlierTerms, ...], Meta(min_length=1, max_length=8_192)]


async def test_a_receiver_of_the_release_before_takes_what_it_knows_and_the_rest_once_it_is_newer(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses them as a whole; the sender puts them aside and loses none."""
    before = await town.bravo.balance("b-1")
    read = Inbound._read

    def read_as_before(self: Inbound, caller: str, envelope: Envelope, keys: Any) -> Any:
        try:
            dsse.verify_submitted(envelope, EarlierBatch, keys, payload_type=PAYMENT_BATCH_TYPE)
        except EvidenceError as error:
            raise Refusal(error.reason, str(error), status=400) from error
        return read(self, caller, envelope, keys)

    monkeypatch.setattr(Inbound, "_read", read_as_before)
    bodies = [order(1, **said()) if number % 3 == 1 else order(1) for number in range(9)]
    answer = await town.alpha.send("POST", "/payments/batch", {"payments": bodies})
    assert [one["status"] for one in answer.json()["results"]] == ["reserved"] * 9
    unknown = {body["id"] for body in bodies if "uetr" in body}
    for body in bodies:
        if body["id"] not in unknown:
            await town.alpha.until(body["id"], "posted")
    await until(lambda: town.alpha.node.outbound.set_aside.get(BRAVO, set()) == unknown)
    # What comes now isn't held up by those.
    later = order(1)
    await town.alpha.send("POST", "/payments", later)
    await town.alpha.until(later["id"], "posted")
    assert await town.bravo.balance("b-1") == before + 7
    for payment_id in unknown:
        assert (await town.alpha.get(f"/payments/{payment_id}"))["status"] == "reserved"
        assert (await town.bravo.send("GET", f"/payments/{payment_id}")).status_code == 404
    monkeypatch.undo()
    town.alpha.node.outbound.wake(BRAVO, payments=unknown)
    for payment_id in unknown:
        await town.alpha.until(payment_id, "posted")
    assert await town.bravo.balance("b-1") == before + 10


@pytest.mark.parametrize("member", ["end_to_end_id", "instruction_id"])
async def test_another_banks_reference_in_no_normal_form_is_declined_as_a_name_is(town: Town, member: str) -> None:
    """Else a search for it in the one form doesn't find it."""
    odd = terms(1, **{member: "Zoe\u0308"})
    (outcome,) = town.acknowledged(await town.deliver(town.sealed(odd))).outcomes
    assert (outcome.status, outcome.reason) == ("refused", "text_not_plain")
