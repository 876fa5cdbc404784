"""What a bank's people do to its accounts: entries of the bank's own, blocks, closing, names; over real sockets."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import Any

import pytest
from running_banks import LISTED, SANCTIONS, RunningBank, Town, order
from support import uuid7

from participants.audit.fsck import fsck

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def internal(bank: RunningBank, code: str, currency: str = "EUR") -> None:
    account = {"code": code, "currency": currency, "name": f"The bank's {code}", "kind": "internal"}
    answer = await bank.send("POST", "/accounts", {"accounts": [account]})
    assert answer.json()[0]["status"] in ("opened", "exists"), answer.text


def entry(kind: str, account: str, amount: int, **changes: Any) -> dict[str, Any]:
    made = {"id": uuid7(), "kind": kind, "account": account, "currency": "EUR", "amount_minor": str(amount)}
    return {**made, "against": "cash", "reference": f"slip {made['id'][-12:]}", **changes}


async def ask(bank: RunningBank, body: dict[str, Any], *people: str) -> tuple[int, str | None]:
    """Let people ask for an entry one after the other; return the last one's status and reason."""
    for person in people:
        answer = await bank.send("POST", "/entries", body, subject=person)
    return answer.status_code, answer.json().get("code")


async def account_id(bank: RunningBank, code: str, kind: str = "customer") -> int:
    (found,) = (await bank.get("/accounts", kind=kind, code=code, currency="EUR"))["items"]
    return int(found["id"])


async def set_state(bank: RunningBank, code: str, state: str, *people: str) -> tuple[int, str]:
    path = f"/accounts/{await account_id(bank, code)}/state"
    for person in people or ("sam",):
        answer = await bank.send("PUT", path, {"state": state, "reason": "because"}, subject=person)
    body = answer.json()
    return answer.status_code, body.get("state") or body["code"]


async def assert_sound(*banks: RunningBank) -> None:
    for bank in banks:
        report = await fsck(bank.node.database_url, bank.bic)
        assert report.ok, [(c.name, c.difference) for c in report.checks if not c.ok]


# --- entries of the bank's own ---------------------------------------------------------------------------------


async def test_a_deposit_takes_two_people_and_is_made_once(town: Town) -> None:
    bank = town.alpha
    await internal(bank, "cash")
    await bank.open("a-saver", balance=0)
    deposit = entry("deposit", "a-saver", 5_000)
    assert await ask(bank, deposit, "sam", "SAM") == (409, "entry_needs_second_person")
    assert await bank.balance("a-saver") == 0
    waiting = [one for one in await bank.get("/proposals") if one["kind"] == "entry"]
    assert [(one["subject"], one["person"]) for one in waiting] == [(deposit["id"], "sam")]
    assert await ask(bank, {**deposit, "amount_minor": "5001"}, "tom") == (409, "entry_needs_second_person")
    made = await bank.send("POST", "/entries", deposit, subject="tom")
    again = await bank.send("POST", "/entries", deposit, subject="sam")
    assert (made.status_code, again.status_code, again.headers["Idempotency-Hit"]) == (201, 201, "true")
    assert made.json() == again.json() == (await bank.get(f"/entries/{deposit['id']}"))
    assert made.json()["made_by"] == ["sam", "tom"]
    assert await bank.balance("a-saver") == await bank.balance("cash", kind="internal") == 5_000
    assert [one for one in await bank.get("/proposals") if one["subject"] == deposit["id"]] == []
    await assert_sound(bank)


async def test_entries_read_ibans_as_orders_do(town: Town) -> None:
    """In groups and small letters; and so do the filters by account."""
    bank, iban, spelled = town.alpha, "DE89370400440532013000", "de89 3704 0044 0532 0130 00"
    await internal(bank, "cash-iban")
    await bank.open(iban, balance=0)
    deposit = {**entry("deposit", spelled, 700), "against": "cash-iban"}
    assert await ask(bank, deposit, "sam", "tom") == (201, None)
    assert (await bank.get(f"/entries/{deposit['id']}"))["account"] == iban
    (found,) = (await bank.get("/accounts", code=spelled))["items"]
    assert (found["code"], found["balance_minor"]) == (iban, "-700")
    events = await bank.get("/events", account=spelled, type="account.deposited")
    assert [one["entry"]["id"] for one in events["events"]] == [deposit["id"]]


async def test_a_withdrawal_and_a_fee_take_one_person(town: Town) -> None:
    bank = town.alpha
    await internal(bank, "cash")
    await internal(bank, "fees")
    await bank.open("a-drawer", balance=1_000)
    assert await ask(bank, entry("withdrawal", "a-drawer", 400), "sam") == (201, None)
    assert await ask(bank, entry("fee", "a-drawer", 15, against="fees"), "sam") == (201, None)
    assert await bank.balance("a-drawer") == 585
    assert await bank.balance("fees", kind="internal") == 15
    assert await ask(bank, entry("withdrawal", "a-drawer", 586), "sam") == (422, "insufficient_funds")
    await assert_sound(bank)


async def test_one_slip_is_booked_once(town: Town) -> None:
    bank = town.alpha
    await internal(bank, "cash")
    await internal(bank, "fees")
    await bank.open("a-once", balance=1_000)
    slip = entry("withdrawal", "a-once", 10, reference="slip 17")
    assert await ask(bank, slip, "sam") == (201, None)
    assert await ask(bank, {**slip, "amount_minor": "11"}, "sam") == (409, "id_reused")
    assert await ask(bank, {**slip, "id": uuid7()}, "sam") == (409, "entry_reference_known")
    assert await ask(bank, {**slip, "id": uuid7(), "against": "fees"}, "sam") == (201, None)
    at_once = [entry("withdrawal", "a-once", 1, reference="slip 18") for _ in range(6)]
    answers = await asyncio.gather(*(bank.send("POST", "/entries", body) for body in at_once))
    assert sorted(answer.status_code for answer in answers) == [201, *[409] * 5]
    same = entry("withdrawal", "a-once", 1)
    answers = await asyncio.gather(*(bank.send("POST", "/entries", same) for _ in range(6)))
    assert {answer.status_code for answer in answers} == {201}
    assert await bank.balance("a-once") == 1_000 - 10 - 10 - 1 - 1
    await assert_sound(bank)


async def test_entries_that_are_refused(town: Town) -> None:
    bank = town.alpha
    await internal(bank, "cash")
    await bank.open("a-refused", balance=100)
    for body, expected in (
        (entry("fee", "nobody", 1), (404, "account_unknown")),
        (entry("fee", "a-refused", 1, against="nowhere"), (422, "internal_account_unknown")),
        (entry("fee", "a-refused", 1, against="a-1"), (422, "internal_account_unknown")),
        (entry("deposit", "nobody", 1), (404, "account_unknown")),
        (entry("fee", "a-refused", 0), (400, "validation_failed")),
        (entry("fee", "a-refused", 1, reference="a\nb"), (400, "validation_failed")),
        (entry("gift", "a-refused", 1), (400, "validation_failed")),
    ):
        assert await ask(bank, body, "sam") == expected
    assert (await bank.send("GET", f"/entries/{uuid7()}")).json()["code"] == "entry_unknown"
    # A payment's id is no entry's, and the other way round.
    paid = order(1)
    assert (await bank.send("POST", "/payments", paid)).status_code == 201
    assert await ask(bank, entry("fee", "a-refused", 1, id=paid["id"]), "sam") == (201, None)
    await assert_sound(bank)


# --- opening --------------------------------------------------------------------------------------------------------


async def test_an_internal_account_opens_empty_and_balances_what_opens_with_money(town: Town) -> None:
    bank = town.alpha
    rich = {"code": "rich", "currency": "EUR", "name": "x", "kind": "internal", "opening_balance_minor": "1"}
    taken = {"code": "a-taken", "currency": "EUR", "name": "x", "opening_balance_minor": "700", "against": "conversion"}

    async def opened(account: dict[str, Any]) -> tuple[str, str | None]:
        for person in ("sam", "tom"):
            answer = await bank.send("POST", "/accounts", {"accounts": [account]}, subject=person)
        outcome = answer.json()[0]
        return outcome["status"], outcome.get("reason")

    assert await opened(rich) == ("refused", "internal_account_opens_empty")
    assert await opened(taken) == ("refused", "internal_account_unknown")
    await internal(bank, "conversion")
    nostro = await bank.balance("AGNTXXS0", kind="nostro")
    assert await opened(taken) == ("opened", None)
    assert await bank.balance("conversion", kind="internal") == 700
    assert await bank.balance("AGNTXXS0", kind="nostro") == nostro
    await assert_sound(bank)


# --- state and name -------------------------------------------------------------------------------------------------


async def test_a_blocked_account_pays_nothing_and_takes_nothing(town: Town) -> None:
    alpha, bravo = town.alpha, town.bravo
    await alpha.open("a-block")
    await bravo.open("b-block", balance=0)
    await internal(bravo, "cash")
    assert await set_state(alpha, "a-block", "debits_blocked") == (200, "debits_blocked")
    refused = await alpha.send("POST", "/payments", order(10, debtor_account="a-block"))
    assert (refused.status_code, refused.json()["code"]) == (422, "debtor_account_blocked")

    assert await set_state(bravo, "b-block", "debits_blocked") == (200, "debits_blocked")
    taken = order(10, creditor_account="b-block")
    await alpha.send("POST", "/payments", taken)
    await alpha.until(taken["id"], "posted")
    assert await set_state(bravo, "b-block", "blocked") == (200, "blocked")
    declined = order(10, creditor_account="b-block")
    await alpha.send("POST", "/payments", declined)
    assert (await alpha.until(declined["id"], "refused"))["reason"] == "creditor_account_blocked"
    for body in (entry("deposit", "b-block", 1), entry("fee", "b-block", 1)):
        assert await ask(bravo, body, "sam", "tom") == (409, "account_blocked")
    await assert_sound(alpha, bravo)


async def test_a_block_is_lifted_by_two(town: Town) -> None:
    bank = town.alpha
    await bank.open("a-lift")
    assert await set_state(bank, "a-lift", "blocked") == (200, "blocked")
    assert await set_state(bank, "a-lift", "debits_blocked") == (409, "unblocking_needs_second_person")
    assert await set_state(bank, "a-lift", "open", "sam", "SAM ") == (409, "unblocking_needs_second_person")
    kinds = {(one["kind"], one["subject"]) for one in await bank.get("/proposals")}
    assert ("unblocking", "a-lift EUR, change 2") in kinds
    # Another change ends what was proposed.
    assert await set_state(bank, "a-lift", "debits_blocked", "tom") == (200, "debits_blocked")
    assert await set_state(bank, "a-lift", "open", "tom") == (409, "unblocking_needs_second_person")
    assert await set_state(bank, "a-lift", "open", "ria") == (200, "open")
    assert await set_state(bank, "a-lift", "open") == (200, "open")
    assert (await bank.send("POST", "/payments", order(1, debtor_account="a-lift"))).status_code == 201
    await assert_sound(bank)


async def test_an_account_closes_empty_with_nothing_waiting(town: Town) -> None:
    alpha, bravo = town.alpha, town.bravo
    await alpha.open("a-close", balance=100)
    assert await set_state(alpha, "a-close", "closed") == (409, "account_balance_not_zero")
    held = order(100, debtor_account="a-close", creditor_name=LISTED)
    lists = {"name": "test", "files": {"list.csv": b64encode(SANCTIONS).decode()}}
    assert (await alpha.send("POST", "/screening/lists", lists)).status_code == 201
    assert (await alpha.send("POST", "/payments", held)).json()["status"] == "held"
    assert await set_state(alpha, "a-close", "closed") == (409, "account_payments_waiting")
    for person in ("ria", "tom"):
        word = {"decision": "release", "reason": "somebody else"}
        await alpha.send("POST", f"/holds/{held['id']}/decisions", word, subject=person)
    await alpha.until(held["id"], "posted")
    assert await set_state(alpha, "a-close", "closed") == (200, "closed")
    assert await set_state(alpha, "a-close", "closed") == (200, "closed")
    assert await set_state(alpha, "a-close", "open", "sam", "tom") == (409, "account_closed")
    refused = await alpha.send("POST", "/payments", order(1, debtor_account="a-close"))
    assert (refused.status_code, refused.json()["code"]) == (422, "debtor_account_closed")
    back = order(1, creditor_agent=alpha.bic, creditor_account="a-close", debtor_account="b-1")
    await bravo.send("POST", "/payments", back)
    assert (await bravo.until(back["id"], "refused"))["reason"] == "creditor_account_closed"
    path = f"/accounts/{await account_id(alpha, 'a-close')}/name"
    renamed = await alpha.send("PUT", path, {"name": "New", "reason": "why"})
    assert (renamed.status_code, renamed.json()["code"]) == (409, "account_closed")
    await assert_sound(alpha, bravo)


async def test_a_hold_for_an_account_that_was_blocked_meanwhile_waits(town: Town) -> None:
    alpha, bravo = town.alpha, town.bravo
    await bravo.open("b-held", balance=0)
    lists = {"name": "test", "files": {"list.csv": b64encode(SANCTIONS).decode()}}
    assert (await bravo.send("POST", "/screening/lists", lists)).status_code == 201
    held = order(5, creditor_account="b-held", creditor_name=LISTED)
    await town.carlo.open("c-payer")
    await town.carlo.send("POST", "/payments", {**held, "debtor_account": "c-payer"})
    await bravo.until(held["id"], "held")
    assert await set_state(bravo, "b-held", "closed") == (409, "account_payments_waiting")
    assert await set_state(bravo, "b-held", "blocked") == (200, "blocked")
    word = {"decision": "release", "reason": "somebody else"}
    first = await bravo.send("POST", f"/holds/{held['id']}/decisions", word, subject="ria")
    assert first.status_code == 201
    second = await bravo.send("POST", f"/holds/{held['id']}/decisions", word, subject="tom")
    assert (second.status_code, second.json()["code"]) == (409, "creditor_account_blocked")
    assert await set_state(bravo, "b-held", "open", "sam", "tom") == (200, "open")
    assert (await bravo.send("POST", f"/holds/{held['id']}/decisions", word, subject="tom")).status_code == 201
    assert await bravo.balance("b-held") == 5
    await assert_sound(alpha, bravo)


async def test_what_was_reserved_comes_back_to_a_blocked_account(town: Town) -> None:
    alpha = town.alpha
    await alpha.open("a-back", balance=50)
    lost = order(50, debtor_account="a-back", creditor_account="nobody")
    await alpha.send("POST", "/payments", lost)
    assert (await set_state(alpha, "a-back", "blocked"))[0] == 200
    await alpha.until(lost["id"], "refused")
    assert await alpha.balance("a-back") == 50
    await assert_sound(alpha)


async def test_a_name_changes_and_the_journal_keeps_it(town: Town) -> None:
    bank = town.alpha
    await bank.open("a-name")
    number = await account_id(bank, "a-name")
    for name in ("Ann Alder", "Ann Birch"):
        answer = await bank.send("PUT", f"/accounts/{number}/name", {"name": name, "reason": "married"})
        assert (answer.status_code, answer.json()["name"]) == (200, name)
    assert (await bank.get(f"/accounts/{number}"))["name"] == "Ann Birch"
    async with bank.node.pool.acquire() as connection:
        kept = await connection.fetch(
            "SELECT data->>'name' FROM event WHERE type = 'account.renamed' ORDER BY sequence"
        )
    assert [row[0] for row in kept][-2:] == ["Ann Alder", "Ann Birch"]
    await assert_sound(bank)


async def test_accounts_between_banks_stay_as_they_are(town: Town) -> None:
    bank = town.alpha
    await bank.send("POST", "/payments", order(1))
    reserved = (await bank.get("/accounts", kind="reserved"))["items"][0]
    answer = await bank.send("PUT", f"/accounts/{reserved['id']}/state", {"state": "blocked", "reason": "x"})
    assert (answer.status_code, answer.json()["code"]) == (409, "account_of_chart")
    answer = await bank.send("PUT", "/accounts/999999/state", {"state": "blocked", "reason": "x"})
    assert (answer.status_code, answer.json()["code"]) == (404, "account_unknown")
