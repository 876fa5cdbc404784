"""A bank's books: what the coordinator, other members, and each of the bank's own people may do, over HTTP."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import Any

import pytest
from running_banks import LISTED, RunningBank, Town, order, role_for
from running_coordinator import AGENT, ALPHA, BRAVO, COORDINATOR

from gateway.federation.identity.tokens import issue_access_token, member_assertion
from gateway.federation.settings import FUNDING_ACCOUNT
from participants.api.app import HANDLERS
from participants.ledger.ceilings import Ceiling, CeilingReason, SetCeiling
from participants.ledger.exposure import CEILINGS
from participants.roles import Role, Scope

pytestmark = pytest.mark.asyncio(loop_scope="module")

ID = "00000000-0000-4000-8000-000000000000"

# Every operation of a bank, with the roles that it takes. Why each yes is a yes:
# - orders: who pays sees what became of it, and how far the lanes to other banks are; so do returns and disputes,
#   cancellations and recalls.
# - screening: who decides on a hold sees the payment and the lists.
# - lists, accounts: who makes them sees them, and what waits for a second person. Who keeps the accounts also says how
#   much others may owe, and why money moved at the settlement agent that no instruction explains.
# - events: hears what happens in all of the books, and says where it is sent.
# - read: sees everything that is the bank's own, and changes nothing.
# - participant: another bank delivers, compares its own lanes with this bank, and fetches what it signed itself;
#   what the coordinator showed both of a result, the two compare.
MATRIX: dict[tuple[str, str], set[str]] = {
    ("POST", "/payments"): {"orders"},
    ("POST", "/payments/batch"): {"orders"},
    ("GET", "/payments"): {"orders", "screening", "read"},
    ("GET", "/payments/{payment_id:uuid}"): {"orders", "screening", "read"},
    ("GET", "/batches/{batch_id:uuid}"): {"orders", "read"},
    ("GET", "/batches/{batch_id:uuid}/orders"): {"orders", "read"},
    ("POST", "/payments/{payment_id:uuid}/return"): {"orders"},
    ("POST", "/payments/{payment_id:uuid}/cancellation"): {"orders"},
    ("POST", "/payments/cancellations"): {"orders"},
    ("POST", "/payments/{payment_id:uuid}/recalls"): {"orders"},
    ("POST", "/payments/{payment_id:uuid}/recalls/{recall_id:uuid}/return"): {"orders"},
    ("POST", "/payments/{payment_id:uuid}/recalls/{recall_id:uuid}/refusal"): {"orders"},
    ("GET", "/recalls"): {"orders", "read"},
    ("PUT", "/payments/{payment_id:uuid}/dispute"): {"orders"},
    ("DELETE", "/payments/{payment_id:uuid}/dispute"): {"orders"},
    ("POST", "/entries"): {"accounts"},
    ("GET", "/entries/{entry_id:uuid}"): {"accounts", "read"},
    ("GET", "/accounts/{account_id:int}"): {"accounts", "read"},
    ("PUT", "/accounts/{account_id:int}/state"): {"accounts"},
    ("PUT", "/accounts/{account_id:int}/name"): {"accounts"},
    ("GET", "/accounts/{account_id:int}/balance"): {"accounts", "read"},
    ("GET", "/accounts/{account_id:int}/statement"): {"accounts", "read"},
    ("GET", "/accounts/{account_id:int}/statement/csv"): {"accounts", "read"},
    ("GET", "/accounts/{account_id:int}/statement/camt053"): {"accounts", "read"},
    ("GET", "/holds"): {"screening", "read"},
    ("POST", "/holds/decisions"): {"screening"},
    ("POST", "/holds/{payment_id:uuid}/decisions"): {"screening"},
    ("POST", "/screening/lists"): {"lists"},
    ("GET", "/screening/lists"): {"screening", "lists", "read"},
    ("GET", "/proposals"): {"accounts", "lists", "read"},
    ("POST", "/accounts"): {"accounts"},
    ("GET", "/accounts"): {"accounts", "read"},
    ("GET", "/accounts/{account_id:int}/postings"): {"accounts", "read"},
    ("GET", "/balances"): {"accounts", "read"},
    ("GET", "/exposures"): {"accounts", "read"},
    ("GET", "/ceilings"): {"accounts", "read"},
    ("PUT", "/ceilings/{currency:str}"): {"accounts"},
    ("PUT", "/ceilings/{currency:str}/{counterparty:str}"): {"accounts"},
    ("GET", "/settlement-account"): {"accounts", "read"},
    ("GET", "/settlement-account/movements"): {"accounts", "read"},
    ("PUT", "/settlement-account/movements/{movement:int}/explanation"): {"accounts"},
    ("GET", "/lanes"): {"orders", "read"},
    ("GET", "/cycles/{cycle:str}"): {"orders", "read"},
    ("GET", "/cycles/{cycle:str}/payments"): {"orders", "screening", "read"},
    ("GET", "/cycles/{cycle:str}/attestations"): {"orders", "read"},
    ("GET", "/cycles/{cycle:str}/positions"): {"orders", "read"},
    ("GET", "/cycles/{cycle:str}/positions/{counterparty:str}/{currency:str}"): {"orders", "read"},
    ("GET", "/cycles/{cycle:str}/instructions"): {"orders", "read"},
    ("GET", "/events"): {"events", "orders", "screening", "accounts", "read"},
    ("POST", "/webhooks"): {"events"},
    ("GET", "/webhooks"): {"events", "read"},
    ("GET", "/webhooks/{webhook_id:uuid}"): {"events", "read"},
    ("DELETE", "/webhooks/{webhook_id:uuid}"): {"events"},
    ("POST", "/webhooks/{webhook_id:uuid}/secret"): {"events"},
    ("POST", "/webhooks/{webhook_id:uuid}/replay"): {"events"},
    ("POST", "/federation/payments"): {"participant"},
    ("POST", "/federation/recalls"): {"participant"},
    ("GET", "/federation/lanes"): {"participant"},
    ("GET", "/federation/payments/{payment_id:uuid}/evidence"): {"participant"},
    ("POST", "/federation/results"): {"participant"},
    ("POST", "/reconciliations"): {"orders"},
    ("GET", "/reconciliations"): {"orders", "read"},
    ("GET", "/reconciliations/{reconciliation_id:uuid}"): {"orders", "read"},
    ("POST", "/federation/reconciliation/lanes"): {"participant"},
    ("POST", "/federation/reconciliation/agreements"): {"participant"},
    ("POST", "/federation/reconciliation/sets"): {"participant"},
    ("GET", "/federation/reconciliation/sets/{session_id:uuid}/symbols"): {"participant"},
    ("POST", "/federation/reconciliation/records"): {"participant"},
}
SCOPES: dict[str, set[str]] = {
    Scope.PAYMENTS: {
        "/payments",
        "/payments/{payment_id:uuid}",
        "/recalls",
        "/cycles/{cycle:str}/payments",
        "/batches/{batch_id:uuid}",
        "/batches/{batch_id:uuid}/orders",
        "/holds",
        "/events",
    },
    Scope.ACCOUNTS: {
        "/accounts",
        "/accounts/{account_id:int}",
        "/accounts/{account_id:int}/balance",
        "/accounts/{account_id:int}/postings",
        "/accounts/{account_id:int}/statement",
        "/accounts/{account_id:int}/statement/csv",
        "/accounts/{account_id:int}/statement/camt053",
        "/entries/{entry_id:uuid}",
        "/balances",
        "/proposals",
        "/exposures",
        "/ceilings",
        "/settlement-account",
        "/settlement-account/movements",
        "/events",
    },
    Scope.CYCLES: {
        "/lanes",
        "/cycles/{cycle:str}",
        "/cycles/{cycle:str}/attestations",
        "/cycles/{cycle:str}/positions",
        "/cycles/{cycle:str}/positions/{counterparty:str}/{currency:str}",
        "/cycles/{cycle:str}/instructions",
        "/reconciliations",
        "/reconciliations/{reconciliation_id:uuid}",
        "/events",
    },
    Scope.LISTS: {"/screening/lists"},
}


def path_of(template: str) -> str:
    for part, value in (
        ("{payment_id:uuid}", ID),
        ("{recall_id:uuid}", ID),
        ("{reconciliation_id:uuid}", ID),
        ("{session_id:uuid}", ID),
        ("{entry_id:uuid}", ID),
        ("{batch_id:uuid}", ID),
        ("{account_id:int}", "1"),
        ("{cycle:str}", "2026-01-05-01"),
        ("{currency:str}", "EUR"),
        ("{counterparty:str}", BRAVO),
        ("{movement:int}", "1"),
        ("{webhook_id:uuid}", ID),
    ):
        template = template.replace(part, value)
    return template


async def code(bank: RunningBank, method: str, template: str, token: str | None) -> tuple[int, str | None]:
    answer = await bank.send(method, path_of(template), {} if method in ("POST", "PUT") else None, token=token)
    return answer.status_code, answer.json().get("code") if answer.status_code >= 400 else None


async def test_the_matrix_names_every_operation(town: Town) -> None:
    served = {(str(method), path) for handler in HANDLERS for method in handler.http_methods for path in handler.paths}
    assert served == MATRIX.keys()
    assert all(set(Role) - roles for roles in MATRIX.values()), "no role may be all of them"


async def test_who_may_do_what(town: Town) -> None:
    """Everybody at every operation: whoever may passes the door, and is answered about what he asked."""
    alpha = town.alpha
    callers = {role.value: alpha.staff_token(role=role) for role in Role}
    callers |= {"participant": town.assertion(BRAVO, ALPHA)}
    for (method, template), roles in MATRIX.items():
        assert await code(alpha, method, template, None) == (401, "token_missing")
        for role, token in callers.items():
            status, reason = await code(alpha, method, template, token)
            if role in roles:
                assert reason not in ("role_not_allowed", "scope_not_allowed"), (method, template, role)
                assert status != 401
            else:
                assert (status, reason) == (403, "role_not_allowed"), (method, template, role)


async def test_no_word_of_the_coordinator_opens_anything(town: Town) -> None:
    """Whatever role it writes into a token, and in whose name; and its own assertion, or the agent's, is no bank's."""
    alpha, house = town.alpha, town.coordinator
    roles = [*Role, "staff", "auditor", "operator", "participant", "agent", "coordinator"]
    tokens = [town.member_token(BRAVO if role == "participant" else "carol", ALPHA, role=role) for role in roles]
    for method, template in MATRIX:
        for token in tokens:
            assert await code(alpha, method, template, token) == (401, "token_key_unknown"), (method, template)
    for member, key in ((COORDINATOR, house.base.identity.auth), (AGENT, house.bank(AGENT).identity.auth)):
        token = member_assertion(key=key.within(alpha.node.trust.scheme), member=member, audience=ALPHA)
        for method, template in MATRIX:
            assert await code(alpha, method, template, token) == (403, "role_not_allowed"), (method, template)


async def test_the_issuer_s_name_is_not_enough(town: Town) -> None:
    """A token in the name of the bank's issuer, by the coordinator's key, by another bank's, or by its other keys."""
    alpha, bravo = town.alpha, town.bravo
    keys = [town.coordinator.base.identity.token, bravo.node.identity.token]
    keys += [alpha.node.identity.sign, alpha.node.identity.auth]
    for key in keys:
        token = issue_access_token(
            key=key, issuer=alpha.settings.url, subject="eve", audience=ALPHA, client_id="eve", role="read"
        )
        assert await code(alpha, "GET", "/payments", token) == (401, "token_key_unknown")


async def test_a_role_of_before_is_none(town: Town) -> None:
    """What did everything is refused, and the refusal names what there is."""
    answer = await town.alpha.send("GET", "/payments", token=town.alpha.staff_token(role="staff"))
    assert (answer.status_code, answer.json()["code"]) == (401, "token_claims_refused")
    assert all(role in answer.json()["detail"] for role in Role)


@pytest.mark.parametrize("scope", list(Scope))
async def test_a_reader_s_scope_is_a_limit(town: Town, scope: Scope) -> None:
    token = town.alpha.staff_token("rita", role="read", scope=scope.value)
    for (method, template), roles in MATRIX.items():
        if "read" in roles:
            _, reason = await code(town.alpha, method, template, token)
            assert (reason == "scope_not_allowed") == (template not in SCOPES[scope]), template


# --- four eyes ---------------------------------------------------------------------------------------------------

SPELLINGS = ("dora", " Dora", "DORA ", "ｄｏｒａ")


def opening(code_: str, amount: int = 900) -> dict[str, Any]:
    return {"accounts": [{"code": code_, "currency": "EUR", "name": "x", "opening_balance_minor": str(amount)}]}


async def opened(bank: RunningBank, body: dict[str, Any], subject: str) -> tuple[str, str | None]:
    (outcome,) = (await bank.send("POST", "/accounts", body, subject=subject)).json()
    return outcome["status"], outcome.get("reason")


async def test_nobody_makes_money_alone(town: Town) -> None:
    """An account that opens with money takes two people who ask for the very same."""
    alpha, waits = town.alpha, ("proposed", "opening_needs_second_person")
    before = await alpha.balance(FUNDING_ACCOUNT, kind="internal")
    for spelling in SPELLINGS:
        assert await opened(alpha, opening("a-made"), spelling) == waits
    assert await opened(alpha, opening("a-made", 901), "egon") == waits
    assert await opened(alpha, opening("a-made", 902), "dora") == waits
    assert await alpha.balance(FUNDING_ACCOUNT, kind="internal") == before
    waiting = [(one["subject"], one["person"]) for one in await alpha.get("/proposals")]
    assert waiting[:3] == [("a-made EUR", "dora"), ("a-made EUR", "egon"), ("a-made EUR", "dora")]
    assert await opened(alpha, opening("a-made"), "egon") == ("opened", None)
    assert await alpha.balance("a-made") == 900
    assert await alpha.balance(FUNDING_ACCOUNT, kind="internal") == before + 900
    assert await opened(alpha, opening("a-made"), "dora") == ("exists", "account_exists")
    assert [one for one in await alpha.get("/proposals") if one["subject"] == "a-made EUR"] == []
    assert await opened(alpha, opening("a-empty", 0), "dora") == ("opened", None)


def listed(*names: str) -> dict[str, Any]:
    rows = "".join(f"{number},{name},individual,TEST,\n" for number, name in enumerate(names, 1))
    content = f"uid,name,type,programs,alternate_names\n{rows}".encode()
    return {"name": "four eyes", "files": {"list.csv": b64encode(content).decode()}}


async def imported(bank: RunningBank, body: dict[str, Any], subject: str) -> tuple[int, str | None]:
    answer = await bank.send("POST", "/screening/lists", body, subject=subject)
    return answer.status_code, answer.json().get("code")


async def entries(bank: RunningBank) -> int:
    lists = await bank.get("/screening/lists")
    return next(int(one["entries"]) for one in lists if one["name"] == "four eyes")


async def test_nobody_weakens_a_list_alone(town: Town) -> None:
    """Neither at once nor in many small steps; what was confirmed once isn't confirmed for later."""
    bravo, names, missing = town.bravo, [f"Listed Person {n}" for n in range(100)], (409, "list_needs_second_person")
    assert await imported(bravo, listed(*names), "dora") == (201, None)
    assert await imported(bravo, listed(*names, "One More"), "dora") == (201, None)
    assert await imported(bravo, listed(*names), "dora") == (201, None)
    assert await imported(bravo, listed(*names[:98]), "dora") == (201, None)
    assert await entries(bravo) == 98
    small = listed(*names[:1])
    for spelling in SPELLINGS:
        assert await imported(bravo, small, spelling) == missing
        assert await imported(bravo, listed(*names[:95]), spelling) == missing, "three and three are six"
    assert await entries(bravo) == 98
    assert await imported(bravo, small, "egon") == (201, None)
    assert await entries(bravo) == 1
    assert await imported(bravo, listed(*names), "egon") == (201, None)
    assert await imported(bravo, small, "dora") == missing
    assert await entries(bravo) == 100


async def test_nobody_gains_names_to_take_out_by_adding(town: Town) -> None:
    """However long a list was made by somebody alone, what may go is measured by what two people last agreed on."""
    carlo, names, missing = town.carlo, [f"Listed Person {n}" for n in range(100)], (409, "list_needs_second_person")
    made_up = [f"Nobody Known {n}" for n in range(2_100)]
    assert await imported(carlo, listed(*names), "dora") == (201, None)
    assert await imported(carlo, listed(*names, *made_up), "egon") == (201, None)
    assert await imported(carlo, listed(*made_up), "egon") == missing
    assert await imported(carlo, listed(*names[5:], *made_up), "egon") == (201, None)
    assert await imported(carlo, listed(*names[6:], *made_up), "egon") == missing


async def ceiling_set(bank: RunningBank, path: str, limit: int | None, subject: str) -> tuple[int, str | None]:
    body = {"limit_minor": None if limit is None else str(limit), "reason": "because"}
    answer = await bank.send("PUT", f"/ceilings/{path}", body, subject=subject)
    return answer.status_code, None if answer.is_success else answer.json()["code"]


async def test_nobody_raises_a_ceiling_alone(town: Town) -> None:
    """Neither for all, nor for one by a ceiling of its own, nor by lifting; lowering takes one person."""
    alpha, missing, done = town.alpha, (409, "ceiling_needs_second_person"), (200, None)
    assert await ceiling_set(alpha, "JPY", 100, "dora") == done
    for path, limit in (("JPY", 101), ("JPY", None), (f"JPY/{BRAVO}", 101)):
        for spelling in SPELLINGS:
            assert await ceiling_set(alpha, path, limit, spelling) == missing
    assert alpha.node.ledger.books.limits.of(BRAVO, "JPY") == (100, "bank")
    assert await ceiling_set(alpha, "JPY", 102, "egon") == missing, "another amount is another proposal"
    waiting = [(one["kind"], one["subject"], one["person"]) for one in await alpha.get("/proposals")][:4]
    assert waiting == [
        ("ceiling", "JPY of all: from 100 to 102", "egon"),
        ("ceiling", f"JPY of {BRAVO}: from none to 101", "dora"),
        ("ceiling", "JPY of all: from 100 to none", "dora"),
        ("ceiling", "JPY of all: from 100 to 101", "dora"),
    ]
    assert await ceiling_set(alpha, "JPY", 101, "egon") == done
    assert [one for one in await alpha.get("/proposals") if one["kind"] == "ceiling"] == []
    # What was proposed or confirmed before the last change is proposed anew.
    assert await ceiling_set(alpha, "JPY", 100, "egon") == done
    for person in ("egon", "EGON"):
        assert await ceiling_set(alpha, "JPY", 101, person) == missing
    assert await ceiling_set(alpha, f"JPY/{BRAVO}", 5, "egon") == done
    assert await ceiling_set(alpha, "JPY", 101, "dora") == missing
    assert await ceiling_set(alpha, f"JPY/{BRAVO}", None, "dora") == missing
    assert await ceiling_set(alpha, f"JPY/{BRAVO}", None, "egon") == done
    journal = "SELECT data->>'people' FROM event WHERE type = 'exposure.ceilings' ORDER BY sequence"
    people = [row[0] for row in await alpha.node.pool.fetch(journal)]
    assert people == ['["dora"]', '["dora","egon"]', '["egon"]', '["egon"]', '["dora","egon"]']


async def test_two_who_ask_at_once_raise_a_ceiling_once(town: Town) -> None:
    """And what two agreed on counts for the ceilings that they saw, not for those that came between."""
    bravo = town.bravo
    assert await ceiling_set(bravo, "GBP", 100, "dora") == (200, None)
    answers = await asyncio.gather(*(ceiling_set(bravo, "GBP", 200, person) for person in ("dora", "egon")))
    assert sorted(answers) == [(200, None), (409, "ceiling_needs_second_person")]
    agreed = SetCeiling(
        Ceiling(None, "GBP", "300"),
        people=("dora", "egon"),
        reason="because",
        seen=bravo.node.ledger.books.limits.version(CEILINGS) - 1,
    )
    assert await bravo.node.ledger.submit(agreed) is CeilingReason.SECOND_PERSON_MISSING


async def test_who_ordered_a_payment_does_not_release_it(town: Town) -> None:
    """By a batch, by a single order, by a return: over HTTP, in every spelling."""
    alpha = town.alpha
    assert await imported(alpha, listed(LISTED), "fritz") == (201, None)
    single, batched = order(10, creditor_name=LISTED), order(10, creditor_name=LISTED)
    for plain in (False, True):
        for one, path, body in (
            (single, "/payments", single),
            (batched, "/payments/batch", {"payments": [batched]}),
        ):
            assert (await alpha.send("POST", path, body, subject="dora", plain=plain)).is_success
            assert (await alpha.get(f"/payments/{one['id']}"))["ordered_by"] == "dora"
    release = {"decision": "release", "reason": "it is fine"}
    for one in (single, batched):
        decisions = f"/holds/{one['id']}/decisions"
        for spelling in SPELLINGS:
            answer = await alpha.send("POST", decisions, release, subject=spelling)
            assert (answer.status_code, answer.json()["code"]) == (409, "hold_maker_is_checker")
        for person in ("egon", "fritz"):
            answer = await alpha.send("POST", decisions, release, subject=person)
            assert answer.is_success


async def test_the_roles_of_the_helpers_are_those_of_the_matrix() -> None:
    for (method, template), roles in MATRIX.items():
        if "participant" not in roles:
            assert role_for(method, path_of(template)) in roles
