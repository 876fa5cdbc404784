"""Settlement against those who forge it: who has the coordinator's token, who alters, replays or answers in the agent's
name, and an agent that moves money by itself. A real agent, a real coordinator and real banks, on real sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest
from agent_harness import (
    AGENT,
    ALFA,
    ALWAYS,
    BETA,
    COORDINATOR,
    GAMMA,
    ISSUER,
    NOBODY,
    Desk,
    Scheme,
    code,
    entitled_request,
    request,
    transfer,
)
from litestar import Litestar, MediaType, Response, post
from msgspec.structs import replace
from running_coordinator import AGENT as TOWNS_AGENT
from running_desk import Desk as House
from running_desk import pay, running_desk, settled
from support import Live, confirmation

from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.cycle.approval import Action, ApprovalRule
from compliance.iso20022 import NOTIFICATION_TYPE, SETTLEMENT_ANSWER_TYPE, SETTLEMENT_REQUEST_TYPE
from gateway.agent.app import build_app
from gateway.agent.authority import REJECTED
from gateway.agent.ledger import Ledger
from gateway.coordinator.cycles.failures import FailureReason
from gateway.coordinator.cycles.settlement import HttpSettlementClient, NoAnswerError, Settled
from gateway.coordinator.registry.members import SettlementAgent
from gateway.federation.http.client import AccessToken, FederationClient
from gateway.federation.http.node import create_app
from gateway.federation.identity.tokens import TokenVerifier, issue_access_token, member_assertion
from gateway.federation.iso20022 import Movement, status_report
from gateway.federation.iso20022.pacs029 import read_settlement_request
from gateway.federation.membership.trust import TrustStore
from gateway.federation.messages.settlement import Funding, SettlementOrder
from gateway.federation.storage.database import asyncpg_pool
from gateway.federation.storage.postgres import dsn
from participants import readiness
from tests.conftest import NewDatabase

# --- the agent ------------------------------------------------------------------------------------------------


@pytest.fixture
async def desk(tmp_path: Path, new_database: NewDatabase, live: Live) -> Desk:
    scheme, database = Scheme(tmp_path), await new_database("gateway.agent")
    return Desk(scheme, live(lambda url: build_app(scheme.settings(url, database), database)))


MESSAGE = request("1", *transfer(ALFA, BETA, 400))
OTHER = request("2", *transfer(ALFA, BETA, 400))


Forge = Callable[[Scheme, bytes], SettlementOrder]


def signed_by(key: Callable[[Scheme], SigningKey]) -> Forge:
    return lambda scheme, message: replace(
        scheme.order(message), request=dsse.seal(message, SETTLEMENT_REQUEST_TYPE, key(scheme))
    )


def approved(**changes: Any) -> Forge:
    return lambda scheme, message: scheme.order(message, rule=ALWAYS, **changes)


def with_signature_of(sent: Callable[[bytes], bytes]) -> Forge:
    """Put other bytes under a genuine signature."""

    def order(scheme: Scheme, message: bytes) -> SettlementOrder:
        genuine = dsse.seal(message, SETTLEMENT_REQUEST_TYPE, scheme.sign)
        payload = dsse.seal(sent(message), SETTLEMENT_REQUEST_TYPE, SigningKey.generate()).payload
        return replace(scheme.order(sent(message)), request=replace(genuine, payload=payload))

    return order


def of_mode(mode: str) -> bytes:
    return b'{"mode":"%b","thresholds_minor":{}}' % mode.encode()


def decisions_of(result: str, *people: str) -> Forge:
    def order(scheme: Scheme, message: bytes) -> SettlementOrder:
        made = approved(approved_by=("alice", "bob"))(scheme, message)
        cycle = read_settlement_request(message).cycle
        return replace(made, decisions=tuple(scheme.decisions(Action.APPROVE, cycle, result, *people)))

    return order


FORGED: dict[str, tuple[Forge, str]] = {
    "no signature": (
        lambda s, m: replace(s.order(m), request=replace(s.order(m).request, signatures=())),
        "request_signature_refused",
    ),
    "a key that nobody knows": (signed_by(lambda _: SigningKey.generate()), "request_signature_refused"),
    "the coordinator's token key": (signed_by(lambda s: s.token), "request_signature_refused"),
    "the agent's own key": (signed_by(lambda s: s.key(AGENT, "sign")), "request_signature_refused"),
    "a bank's sign key": (signed_by(lambda s: s.key(ALFA, "sign")), "request_signature_refused"),
    "a bank's auth key": (signed_by(lambda s: s.key(ALFA, "auth")), "request_signature_refused"),
    "one byte altered": (
        with_signature_of(lambda message: message.replace(b">4.00<", b">4.01<")),
        "request_signature_refused",
    ),
    "under another message id": (with_signature_of(lambda _: OTHER), "request_signature_refused"),
    "signed as another kind of message": (
        lambda s, m: replace(s.order(m), request=dsse.seal(m, NOTIFICATION_TYPE, s.sign)),
        "request_signature_refused",
    ),
    "the result unsigned": (
        lambda s, m: replace(s.order(m), result=replace(s.order(m).result, signatures=())),
        "result_signature_refused",
    ),
    "the result signed by a bank": (
        lambda s, m: replace(
            s.order(m),
            result=dsse.seal(s.order(m).result.payload_bytes(), s.order(m).result.payloadType, s.key(ALFA, "sign")),
        ),
        "result_signature_refused",
    ),
    "amounts that the result hasn't": (
        lambda s, m: s.order(m, moving=transfer(ALFA, BETA, 399)),
        "movements_differ",
    ),
    "a payee that the result hasn't": (
        lambda s, m: s.order(m, moving=transfer(ALFA, GAMMA, 400)),
        "movements_differ",
    ),
    "less than the result": (
        lambda s, m: s.order(m, moving=(*transfer(ALFA, BETA, 400), *transfer(GAMMA, BETA, 1, "JPY"))),
        "movements_differ",
    ),
    "the result of another cycle": (lambda s, m: s.order(m, cycle="2026-01-03-01"), "cycle_differs"),
    "the result of another day": (lambda s, m: s.order(m, value_date="2026-01-03"), "cycle_differs"),
    "another rulebook": (
        lambda s, m: replace(s.order(m, rule=ALWAYS), rulebook=s.order(m).rulebook),
        "rulebook_differs",
    ),
    "a rulebook that says two things": (
        lambda s, m: s.order(m, rulebook=b'{"approval":%b,"approval":%b}' % (of_mode("always"), of_mode("never"))),
        "rulebook_differs",
    ),
    "no rulebook": (lambda s, m: replace(s.order(m), rulebook=""), "rulebook_differs"),
    "from somebody else": (lambda s, m: s.order(request("1", *transfer(ALFA, BETA, 1), sender=ALFA)), "not_for_us"),
    "to another agent": (lambda s, m: s.order(request("1", *transfer(ALFA, BETA, 1), receiver=ALFA)), "not_for_us"),
}
UNAPPROVED: dict[str, tuple[Forge, str]] = {
    "nobody approved": (approved(), "approval_missing"),
    "one person twice": (approved(approved_by=("alice", "alice")), "approval_missing"),
    "a second person who is no operator": (approved(approved_by=("alice", "mallory")), "approval_missing"),
    "another result was approved": (decisions_of("e" * 64, "alice", "bob"), "approval_missing"),
    "something else was decided": (
        approved(approved_by=("alice", "bob"), actions=(Action.RELEASE,)),
        "approval_missing",
    ),
    "a failed check and no release": (approved(approved_by=("alice", "bob"), checks="fail"), "approval_missing"),
    "operators that the coordinator didn't sign": (
        lambda s, m: replace(
            approved(approved_by=("alice", "bob"))(s, m), operators=dsse.sign(s.operators(), s.key(ALFA, "sign"))
        ),
        "operators_refused",
    ),
}


OWN_RULE: dict[str, tuple[Forge, str]] = {
    "a rulebook that asks for nobody": (lambda s, m: s.order(m), "approval_missing"),
    "the same, after a failed check": (
        lambda s, m: s.order(m, checks="fail", approved_by=("alice", "bob"), actions=(Action.RELEASE,)),
        "approval_missing",
    ),
}
ANSWERED = {str(reason) for reason in REJECTED}


@pytest.mark.parametrize(
    ("forgeries", "own"),
    [(FORGED, NOBODY), (UNAPPROVED, NOBODY), (OWN_RULE, ALWAYS)],
    ids=["forged", "unapproved", "by the coordinator's rulebook alone"],
)
async def test_what_the_coordinator_is_not_entitled_to_moves_nothing(
    tmp_path: Path,
    new_database: NewDatabase,
    live: Live,
    forgeries: dict[str, tuple[Forge, str]],
    own: ApprovalRule,
) -> None:
    """The caller has the coordinator's access token, and whatever else it found."""
    scheme, database = Scheme(tmp_path, own_rule=own), await new_database("gateway.agent")
    desk = Desk(scheme, live(lambda url: build_app(scheme.settings(url, database), database)))
    await desk.open(ALFA, amount=1_000)
    await desk.open(BETA)
    for number, (what, (forge, reason)) in enumerate(forgeries.items(), 10):
        message = request(str(number), *transfer(ALFA, BETA, 400))
        order = forge(scheme, message)
        rightful = approved(approved_by=("alice", "bob"))(scheme, message)
        if reason in ANSWERED:
            # Signed and for good: who was told so may go on, since this message never settles.
            for asked in (order, rightful):
                answer = await desk.coordinator.settle(asked)
                assert (answer.status, answer.reason_code) == ("RJCT", "NARR"), what
                assert answer.reason_text is not None
                assert answer.reason_text.startswith(reason), what
        else:
            answer = code(await desk.coordinator.post(order))
            assert answer[0] in (403, 422), what
            assert answer[1] == reason, what
    assert [await desk.staff.balance(bank) for bank in (ALFA, BETA)] == [1_000, 0]
    assert (await desk.coordinator.settle(approved(approved_by=("alice", "bob"))(scheme, MESSAGE))).status == "ACSC"


async def test_what_was_answered_is_answered_again_whoever_operates_by_now(desk: Desk, tmp_path: Path) -> None:
    await desk.open(ALFA, amount=1_000)
    await desk.open(BETA)
    scheme = desk.scheme
    order = approved(approved_by=("alice", "bob"))(scheme, MESSAGE)
    first = await desk.coordinator.settle(order)
    assert first.status == "ACSC"
    # The answer was lost. Meanwhile an operator is out, and what approved is the word of nobody who counts.
    later = replace(order, operators=dsse.sign(scheme.operators(2, without=("bob",)), scheme.sign), decisions=())
    assert await desk.coordinator.settle(later) == first
    assert await desk.staff.balance(ALFA) == 600


async def test_a_stolen_token_alone_settles_nothing(desk: Desk) -> None:
    await desk.open(ALFA, amount=1_000)
    await desk.open(BETA)
    headers = {"Content-Type": "application/xml"}
    unsigned = await desk.coordinator.http.post("/settlements", content=MESSAGE, headers=headers)
    assert unsigned.status_code in (400, 415)
    assert (await desk.coordinator.http.post("/messages", content=MESSAGE, headers=headers)).status_code == 404
    assert await desk.staff.balance(ALFA) == 1_000


async def test_a_cycle_settles_once_and_never_by_an_older_edition(desk: Desk) -> None:
    await desk.open(ALFA, amount=1_000)
    await desk.open(BETA)
    scheme = desk.scheme
    cycle = "2026-01-02-77"
    second = scheme.order(
        request("5", *transfer(ALFA, BETA, 2_000), cycle=cycle), edition=2, supersedes="a" * 64, defaulted=(GAMMA,)
    )
    assert (await desk.coordinator.settle(second)).status == "RJCT"
    older = scheme.order(request("6", *transfer(ALFA, BETA, 300), cycle=cycle))
    assert code(await desk.coordinator.post(older)) == (409, "edition_superseded")

    first = scheme.order(MESSAGE)
    assert (await desk.coordinator.settle(first)).status == "ACSC"
    again = scheme.order(request("9", *transfer(ALFA, BETA, 400), cycle="2026-01-02-11"))
    assert code(await desk.coordinator.post(again)) == (409, "cycle_settled")
    # The very same order is answered the same, and moves nothing.
    assert (await desk.coordinator.settle(first)).status == "ACSC"
    assert await desk.staff.balance(ALFA) == 600


async def test_a_result_of_another_cycle_supersedes_nothing(desk: Desk) -> None:
    """Whoever puts a recorded request beside another cycle's later result holds its id up, and not the cycle."""
    await desk.open(ALFA, amount=1_000)
    await desk.open(BETA)
    elsewhere = desk.scheme.order(request("8", *transfer(ALFA, BETA, 1), cycle="2026-01-02-79"), edition=2)
    mixed = replace(desk.scheme.order(MESSAGE), result=elsewhere.result)
    assert (await desk.coordinator.settle(mixed)).status == "RJCT"
    assert (await desk.coordinator.settle(desk.scheme.order(OTHER))).status == "ACSC"


async def test_a_register_of_operators_never_goes_back(desk: Desk) -> None:
    await desk.open(ALFA, amount=1_000)
    await desk.open(BETA)
    by = {"rule": ALWAYS, "approved_by": ("alice", "bob")}
    assert (await desk.coordinator.settle(desk.scheme.order(MESSAGE, register=3, **by))).status == "ACSC"
    older = desk.scheme.order(OTHER, register=2, **by)
    assert code(await desk.coordinator.post(older)) == (422, "operators_refused")
    other = replace(
        desk.scheme.order(OTHER, register=3, **by),
        operators=dsse.sign(replace(desk.scheme.operators(3), supersedes="b" * 64), desk.scheme.sign),
    )
    assert code(await desk.coordinator.post(other)) == (422, "operators_refused")


async def test_a_bank_speaks_for_itself_and_only_while_it_is_a_member(desk: Desk, tmp_path: Path) -> None:
    await desk.open(ALFA, amount=1_000)
    for path in ("/notifications", f"/accounts/{ALFA}"):
        # The coordinator can issue a token in the bank's name.
        assert code(await desk.caller(ALFA, "participant").http.get(path)) == (403, "assertion_needed")
        wrong = member_assertion(key=desk.scheme.key(BETA, "auth"), member=ALFA, audience=AGENT)
        answer = await desk.staff.http.get(path, headers={"Authorization": f"Bearer {wrong}"})
        assert code(answer) == (401, "token_key_unknown")
    page = await desk.member(ALFA).get("/notifications")
    key = desk.scheme.key(AGENT, "sign").verifying_key
    (one,) = page["notifications"]
    signed = msgspec.convert(one["signed"], Envelope)
    assert dsse.open_(signed, {key.kid: key}, payload_type=NOTIFICATION_TYPE) == one["document"].encode()
    assert (await desk.member(BETA).get("/notifications"))["notifications"] == []


@pytest.mark.parametrize(
    ("suspended", "path", "expected"),
    [(ALFA, "/notifications", "member_not_active"), (AGENT, "/settlements", "agent_not_active")],
)
async def test_a_suspension_counts_once_the_list_says_so(
    tmp_path: Path, new_database: NewDatabase, live: Live, suspended: str, path: str, expected: str
) -> None:
    scheme, database = Scheme(tmp_path), await new_database("gateway.agent")
    store = TrustStore.open(tmp_path / "anchor.json", path=tmp_path / "trust-list.json")
    published = scheme.publish(2, **{suspended: "suspended"})
    store.update(published)
    store.confirm(confirmation(published, scheme.sign))
    desk = Desk(scheme, live(lambda url: build_app(scheme.settings(url, database), database)))
    who = desk.member(suspended) if path == "/notifications" else desk.coordinator
    answer = await (who.http.get(path) if path == "/notifications" else who.post(MESSAGE))
    assert code(answer)[1] == expected


# --- the coordinator ------------------------------------------------------------------------------------------


class FalseAgent:
    """Answers settlement orders with whatever it is told to."""

    def __init__(self) -> None:
        self.answer: bytes = b""
        self.status = 200

    def app(self) -> Litestar:
        @post("/settlements", status_code=200, opt={"public": True, "body": Envelope})
        async def settle() -> Response[bytes]:
            return Response(self.answer, media_type=MediaType.JSON, status_code=self.status)

        return create_app(
            title="false agent",
            version="1",
            route_handlers=[settle],
            verifier=TokenVerifier(AGENT, lambda _, kid: None),
            ready=self._ready,
        )

    async def _ready(self) -> dict[str, str]:
        return {}


def report(**changes: Any) -> bytes:
    asked = replace_request(**changes)
    at = asked.created_at
    return status_report(message_id="A1", created_at=at, request=asked, status="ACSC", reference="S1", settled_at=at)


def replace_request(**changes: Any) -> Any:
    message = request(changes.pop("message_id", "1"), *transfer(ALFA, BETA, 400), **changes)
    return read_settlement_request(message)


async def test_no_answer_is_believed_that_the_agent_did_not_sign(tmp_path: Path, live: Live) -> None:
    scheme, agent = Scheme(tmp_path), FalseAgent()
    own = scheme.key(AGENT, "sign")
    url = live(agent.app())

    async def find() -> SettlementAgent:
        return SettlementAgent(bic=AGENT, url=url, keys={own.kid: own.verifying_key})

    async def token(audience: str) -> AccessToken:
        issued = issue_access_token(
            key=scheme.token,
            issuer=ISSUER,
            subject=COORDINATOR,
            audience=audience,
            client_id=COORDINATOR,
            role="coordinator",
        )
        return AccessToken(access_token=issued, expires_in=300)

    order = scheme.order(MESSAGE)
    genuine = dsse.seal(report(), SETTLEMENT_ANSWER_TYPE, own)
    altered = replace(genuine, payload=dsse.seal(report(sender=ALFA), SETTLEMENT_ANSWER_TYPE, own).payload)
    unsigned, undecided = FailureReason.AGENT_ANSWER_UNSIGNED, FailureReason.AGENT_UNDECIDED
    forged: list[tuple[object, FailureReason]] = [
        (replace(genuine, signatures=()), unsigned),
        (dsse.seal(report(), SETTLEMENT_ANSWER_TYPE, SigningKey.generate()), unsigned),
        (dsse.seal(report(), SETTLEMENT_ANSWER_TYPE, scheme.key(ALFA, "sign")), unsigned),
        (dsse.seal(report(), SETTLEMENT_ANSWER_TYPE, scheme.key(AGENT, "auth")), unsigned),
        (dsse.seal(report(), SETTLEMENT_ANSWER_TYPE, scheme.sign), unsigned),
        (dsse.seal(report(), NOTIFICATION_TYPE, own), unsigned),
        (replace(genuine, signatures=(*genuine.signatures, *genuine.signatures)), unsigned),
        (altered, unsigned),
        ({"status": "ACSC"}, unsigned),
        # Genuine, and an answer to something else.
        (dsse.seal(report(message_id="2"), SETTLEMENT_ANSWER_TYPE, own), undecided),
        (dsse.seal(report(receiver=ALFA), SETTLEMENT_ANSWER_TYPE, own), undecided),
    ]
    async with FederationClient(COORDINATOR, scheme.sign, ISSUER, token_source=token) as client:
        asking = HttpSettlementClient(client, find)
        for answer, reason in forged:
            agent.answer = msgspec.json.encode(answer)
            with pytest.raises(NoAnswerError) as refused:
                await asking.settle(AGENT, "1", order)
            assert refused.value.failure.reason is reason, answer
        # Nor any refusal: the agent may have settled the message when it came first.
        agent.answer = msgspec.json.encode({"code": "approval_missing", "status": 422, "title": "no", "detail": "no"})
        for agent.status in (400, 403, 404, 409, 413, 415, 422):
            with pytest.raises(NoAnswerError) as refused:
                await asking.settle(AGENT, "1", order)
            assert refused.value.failure.reason is undecided, agent.status
        agent.answer, agent.status = msgspec.json.encode(genuine), 200
        reply = await asking.settle(AGENT, "1", order)
    assert isinstance(reply.answer, Settled)
    assert reply.signed == genuine


# --- the banks ------------------------------------------------------------------------------------------------


@pytest.fixture
async def house(
    postgres_url: str, new_database: NewDatabase, tmp_path: Path, live: Live
) -> AsyncIterator[tuple[House, str]]:
    database = await new_database("gateway.agent")
    async with running_desk(postgres_url, database, tmp_path, live) as running:
        yield running, database


async def test_a_bank_notices_what_the_agent_moves_by_itself(house: tuple[House, str]) -> None:
    desk, database = house
    bravo = desk.town.bravo
    account = bravo.node.settlement_account
    account.late_s = 0.5

    async def look(wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for _ in range(600):
            account.wake()
            seen = await bravo.get("/settlement-account")
            if wanted(seen):
                return seen
            await asyncio.sleep(0.1)
        raise AssertionError(seen)

    await pay(bravo, desk.town.carlo, 300)
    cycle = await desk.netted()
    await desk.decide(cycle, "approve")
    await desk.until(cycle, "final")

    async def moved() -> int:
        return len((await bravo.get("/settlement-account/movements"))["movements"])

    await look(lambda seen: "agrees" in seen["condition"] and "not read" not in seen["condition"])
    while not await moved():
        account.wake()
        await asyncio.sleep(0.1)
    (entry,) = (await bravo.get("/settlement-account/movements"))["movements"]
    assert (entry["amount_minor"], entry["cycle"]) == ("-300", cycle)
    assert (await bravo.get("/settlement-account"))["findings"] == []
    agrees = await bravo.nostro(late_s=0.5)
    assert (agrees.difference, agrees.entries) == (None, 1)
    assert agrees.standing == ""

    # A settlement that no cycle of the coordinator stands behind, in the agent's own books.
    pool = await asyncpg_pool(database)
    movements = (Movement(bravo.bic, "EUR", -900), Movement(desk.town.carlo.bic, "EUR", 900))
    forged = request("7", *movements, receiver=TOWNS_AGENT, cycle="2026-11-27-77")
    await Ledger(pool, TOWNS_AGENT).settle(entitled_request(forged), b"forged")
    await pool.close()
    seen = await look(lambda seen: bool(seen["findings"]))
    (finding,) = seen["findings"]
    assert (finding["fault"], finding["cycle"]) == ("movement_not_instructed", "2026-11-27-77")
    ready = await readiness.ready(bravo.node)
    assert ready["status"] == "degraded"
    assert "movement_not_instructed EUR 2026-11-27-77" in ready["settlement_account"]
    assert "(EUR): movement_not_instructed, -900" in str((await bravo.nostro(late_s=0.5)).difference)

    # Money taken outside of any cycle; the bank's people may know why, and say so by name.
    taken = Funding(id=str(uuid4()), currency="EUR", amount_minor="-5")
    await desk.at_agent(f"/accounts/{bravo.bic}/funding", taken)
    seen = await look(lambda seen: len(seen["findings"]) == 2)
    debit = next(one for one in seen["findings"] if one["fault"] == "movement_debit_unasked")
    explained = f"/settlement-account/movements/{debit['movement']}/explanation"
    assert (await bravo.send("PUT", explained, {"reason": "withdrawn by our treasury"})).is_success
    unknown = await bravo.send("PUT", "/settlement-account/movements/999/explanation", {"reason": "no idea"})
    assert code(unknown) == (404, "movement_unknown")
    assert len((await bravo.get("/settlement-account"))["findings"]) == 1

    # Once people know why, it is booked as well, and the nostro is the account again.
    forged_one = f"/settlement-account/movements/{finding['movement']}/explanation"
    assert (await bravo.send("PUT", forged_one, {"reason": "the agent's mistake, given back next week"})).is_success
    await settled(bravo, -300 - 900 - 5)
    assert (await bravo.nostro(late_s=0.5)).difference is None

    # What a bank has read stays, whatever the agent says later.
    connection = await asyncpg.connect(dsn(bravo.node.database_url), server_settings={"role": "concordat_app"})
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("DELETE FROM settlement_movement")
    await connection.close()
    owner = await asyncpg.connect(dsn(bravo.node.database_url), server_settings={"session_replication_role": "replica"})
    await owner.execute("UPDATE settlement_movement SET amount = -299 WHERE amount = -300")
    await owner.close()
    assert "is kept" in str((await bravo.nostro(late_s=0.5)).difference)
