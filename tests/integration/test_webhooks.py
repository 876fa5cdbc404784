"""What a bank sends to its own systems: each event once it is taken, in order, signed, through failures and crashes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bank_ledgers import Bank, bank, payment
from running_banks import Town, order
from support import uuid7
from webhook_receiver import Receiver, receiving

from gateway.federation.problems import Refusal
from gateway.federation.storage.database import asyncpg_pool
from participants.feed.feed import Feed
from participants.roles import Role
from participants.webhooks import webhooks
from participants.webhooks.messages import WebhookRequest
from participants.webhooks.signing import WebhookSecrets
from participants.webhooks.targets import Targets
from participants.webhooks.webhooks import Webhooks, retry_seconds

LOOPBACK = Targets(["127.0.0.1", "localhost"], ["127.0.0.0/8"])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again within the time of a test."""
    monkeypatch.setattr(webhooks, "RETRY_SECONDS_MIN", 0.01)
    monkeypatch.setattr(webhooks, "LOOK_AT_TABLE_SECONDS", 0.05)


@asynccontextmanager
async def node(url: str, keys: Path) -> AsyncIterator[Webhooks]:
    """Run what one node of a bank sends with."""
    pool = await asyncpg_pool(url, max_size=2)
    feed = Feed(pool, asyncio.Event())
    sends = Webhooks(bank="ALFADEFF", pool=pool, feed=feed, secrets=WebhookSecrets(keys), targets=LOOPBACK)
    feed.start()
    sends.start()
    try:
        yield sends
    finally:
        await sends.stop()
        await feed.stop()
        await pool.close()


@dataclass
class Desk:
    url: str
    keys: Path
    alfa: Bank
    receiver: Receiver

    async def journal(self) -> list[int]:
        rows = await self.alfa.connection.fetch(
            "SELECT sequence FROM event WHERE type = 'payment.reserved' ORDER BY sequence"
        )
        return [row[0] for row in rows]

    async def pay(self, count: int) -> None:
        for _ in range(count):
            await self.alfa.order(payment(1), payment(1))

    async def taken(self) -> None:
        """Wait until the place has all that the journal has."""
        journal = await self.journal()
        await self.receiver.until(lambda: self.receiver.sequences()[-1:] == journal[-1:])


@pytest.fixture
async def desk(new_database: Any, tmp_path: Path) -> AsyncIterator[Desk]:
    url = await new_database("participants.ledger")
    async with bank(url) as alfa, receiving() as receiver:
        await alfa.open("a-1", balance=100_000)
        WebhookSecrets(tmp_path / "keys").make_key()
        yield Desk(url, tmp_path / "keys", alfa, receiver)


def asked(receiver: Receiver, **changes: Any) -> WebhookRequest:
    return WebhookRequest(**{"id": uuid7(), "url": receiver.url, "types": ("payment.reserved",), **changes})


async def test_events_come_in_order_and_signed(desk: Desk) -> None:
    await desk.pay(80)
    async with node(desk.url, desk.keys) as sends:
        webhook, secret = await sends.add(asked(desk.receiver, after=0), by="core")
        await desk.pay(3)
        await desk.taken()
        assert desk.receiver.sequences() == await desk.journal()
        assert desk.receiver.at_once_max == 1
        messages = desk.receiver.messages
        assert len({message.id for message in messages}) == len(messages)
        assert all(message.signed_by(secret) for message in messages)
        assert all(len(message.events) <= 100 for message in messages)
        body = json.loads(messages[0].body)
        assert (body["type"], body["timestamp"]) == ("ledger.events", messages[0].events[-1]["at"])
        assert body["data"]["next"] == messages[0].events[-1]["sequence"]
        assert messages[0].head["content-type"] == "application/json"
        # Nothing that signs is in the database.
        row = str(await desk.alfa.connection.fetchrow("SELECT * FROM webhook"))
        assert secret.removeprefix("whsec_")[:10] not in row
        assert (desk.keys / "webhooks.key").stat().st_mode & 0o777 == 0o600
        async with asyncio.timeout(20):
            while (await sends.get(webhook.id)).cursor < desk.receiver.sequences()[-1]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_a_place_that_fails_gets_the_same_again(desk: Desk) -> None:
    """Errors, redirects and junk are no success; what was tried stays one message while the journal goes on."""
    answers: list[int | bytes] = [500, 302, b"nonsense\r\n\r\n", 429, b"HTTP/1.1 200 X\r\nContent-Length: 3\r\n\r\n"]
    desk.receiver.answer = lambda _: answers.pop(0) if len(answers) > 1 else 200
    async with node(desk.url, desk.keys) as sends:
        webhook, _ = await sends.add(asked(desk.receiver), by="core")
        await desk.pay(1)
        await desk.receiver.until(lambda: bool(desk.receiver.messages))
        await desk.pay(20)
        await desk.taken()
        tries = desk.receiver.messages[:5]
        assert len({(message.id, message.body) for message in tries}) == 1
        assert desk.receiver.sequences() == await desk.journal()
        assert not any("/away" in str(message.head) for message in desk.receiver.messages)
        stands = await sends.get(webhook.id)
        assert (stands.state, stands.failures, stands.last_error) == ("active", 0, None)


def test_waits_grow_to_half_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    waits = [retry_seconds(failures) for failures in range(40)]
    assert waits[:4] == [5, 10, 20, 40]
    assert waits == sorted(waits)
    assert waits[-1] == 12 * 3_600


async def test_what_is_given_up_is_kept_and_replayed(desk: Desk) -> None:
    """Gone, or not taken for three days: an alarm, nothing lost, and a replay begins again under new message ids."""
    desk.receiver.answer = lambda _: 410
    async with node(desk.url, desk.keys) as sends:
        webhook, _ = await sends.add(asked(desk.receiver, after=0), by="core")
        await desk.pay(2)
        await desk.receiver.until(lambda: sends.disabled)
        stands = await sends.get(webhook.id)
        assert (stands.state, stands.disabled, stands.failures) == ("disabled", "gone", 1)
        assert webhook.id in sends.condition()
        tried = len(desk.receiver.messages)

        desk.receiver.answer = lambda _: 500
        await sends.replay(webhook.id, 0)
        await desk.receiver.until(lambda: len(desk.receiver.messages) > tried)
        await desk.alfa.connection.execute("UPDATE webhook SET failing_since = now() - interval '73 hours'")
        await desk.receiver.until(lambda: sends.disabled)
        assert (await sends.get(webhook.id)).disabled == "not taken for three days"

        desk.receiver.answer = lambda _: 200
        before = {message.id for message in desk.receiver.messages}
        await sends.replay(webhook.id, 0)
        await desk.taken()
        assert desk.receiver.sequences() == await desk.journal()
        assert not before & {message.id for message in desk.receiver.taken}
        assert (await sends.get(webhook.id)).state == "active"
        with pytest.raises(Refusal, match="cursor_ahead"):
            await sends.replay(webhook.id, 10_000)


async def test_two_secrets_sign_for_a_day(desk: Desk) -> None:
    async with node(desk.url, desk.keys) as sends:
        webhook, first = await sends.add(asked(desk.receiver), by="core")
        _, second = await sends.rotate(webhook.id)
        await desk.pay(1)
        await desk.taken()
        both = desk.receiver.taken[-1]
        assert both.signed_by(first)
        assert both.signed_by(second)
        await desk.alfa.connection.execute("UPDATE webhook SET previous_secret_until = now()")
        await desk.pay(1)
        await desk.taken()
        late = desk.receiver.taken[-1]
        assert not late.signed_by(first)
        assert late.signed_by(second)


async def test_one_of_several_nodes_sends_and_another_takes_over(desk: Desk) -> None:
    """Each event is sent once while both run; one that ends in the middle leaves the same message to the other."""
    async with node(desk.url, desk.keys) as sends:
        await sends.add(asked(desk.receiver), by="core")
        async with node(desk.url, desk.keys):
            await desk.pay(30)
            await desk.taken()
            assert desk.receiver.at_once_max == 1
            assert desk.receiver.sequences() == await desk.journal()
            desk.receiver.answer = lambda _: None
            known = len(desk.receiver.messages)
            await desk.pay(2)
            await desk.receiver.until(lambda: len(desk.receiver.messages) > known)
            unanswered = desk.receiver.messages[-1]
        # Whichever it was that sent, both have ended by now or let go.
    desk.receiver.answer = lambda _: 200
    async with node(desk.url, desk.keys):
        await desk.pay(1)
        await desk.taken()
    assert (unanswered.id, unanswered.body) in [(message.id, message.body) for message in desk.receiver.taken]
    assert desk.receiver.sequences() == await desk.journal()


async def test_a_node_without_the_key_sends_nothing(desk: Desk, tmp_path: Path) -> None:
    async with node(desk.url, desk.keys) as sends:
        webhook, _ = await sends.add(asked(desk.receiver), by="core")
    await desk.pay(1)
    other = WebhookSecrets(tmp_path / "other")
    other.make_key()
    async with node(desk.url, tmp_path / "other") as sends:
        async with asyncio.timeout(20):
            while not (stands := await sends.get(webhook.id)).last_error:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert "webhook_key_differs" in str(stands.last_error)
    assert desk.receiver.messages == []


async def test_only_init_makes_the_key(desk: Desk, tmp_path: Path) -> None:
    """A directory of before lacks it: nothing is made by the way, and the way out is named."""
    async with node(desk.url, tmp_path / "earlier") as sends:
        with pytest.raises(Refusal) as refused:
            await sends.add(asked(desk.receiver), by="core")
        assert refused.value.reason == "webhook_key_missing"
        assert "`concordat participant init`, run again" in refused.value.detail
        assert await sends.every() == []
    assert not (tmp_path / "earlier").exists()


# --- over HTTP -----------------------------------------------------------------------------------------------


async def command(town: Town, name: str, *arguments: str) -> tuple[int, str]:
    """Run a command where the bank's keys are; return its exit code and what it printed."""
    settings = town.bravo.settings
    environment = {
        **os.environ,
        "CONCORDAT_BIC": settings.bic,
        "CONCORDAT_URL": settings.url,
        "CONCORDAT_DATA_DIR": str(settings.data_dir),
        "NO_PROXY": "127.0.0.1",
    }
    program = str(Path(sys.executable).parent / "concordat")
    process = await asyncio.create_subprocess_exec(
        program, "participant", name, *arguments, "--subject", "ida", env=environment, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


@pytest.mark.asyncio(loop_scope="module")
async def test_the_commands_do_the_same(town: Town) -> None:
    async with receiving() as receiver:
        code, said = await command(town, "webhook-add", receiver.url, "--type", "payment.accepted", "--after", "0")
        assert code == 0, said
        added = json.loads(said)["webhook"]
        assert (added["created_by"], added["types"]) == ("ida", ["payment.accepted"])
        code, said = await command(town, "webhook-replay", added["id"], "0")
        assert code == 0, said
        code, said = await command(town, "webhook-list")
        assert [webhook["id"] for webhook in json.loads(said)] == [added["id"]]
        assert (await command(town, "webhook-delete", added["id"]))[0] == 0
        code, said = await command(town, "webhook-delete", added["id"])
        assert (code, "webhook_unknown" in said) == (1, True)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_core_asks_for_its_credits(town: Town) -> None:
    bravo = town.bravo
    async with receiving() as receiver:
        body = {"id": uuid7(), "url": receiver.url, "types": ["payment.accepted"], "account": "b-2"}
        added = await bravo.send("POST", "/webhooks", body)
        assert added.status_code == 201, added.text
        secret, path = added.json()["secret"], f"/webhooks/{body['id']}"
        assert secret.startswith("whsec_")
        again = await bravo.send("POST", "/webhooks", body)
        assert (again.status_code, again.json()["code"]) == (409, "webhook_exists")

        one = order(77, creditor_account="b-2")
        for each in (order(5), one):
            await town.alpha.send("POST", "/payments", each)
        await receiver.until(lambda: bool(receiver.taken))
        assert [event["payment"]["id"] for event in receiver.taken[0].events] == [one["id"]]
        assert receiver.taken[0].signed_by(secret)

        shown = await bravo.get(path)
        assert (shown["url"], shown["account"], shown["created_by"]) == (receiver.url, "b-2", "sam")
        assert "secret" not in json.dumps(await bravo.get("/webhooks")).replace("previous_secret_until", "")
        changed = await bravo.send("POST", f"{path}/secret")
        assert changed.json()["secret"] != secret
        assert changed.json()["webhook"]["previous_secret_until"]
        replayed = await bravo.send("POST", f"{path}/replay", {"after": 0})
        assert replayed.status_code == 200, replayed.text
        await receiver.until(lambda: len(receiver.taken) == 2)
        assert receiver.taken[1].events == receiver.taken[0].events

        assert (await bravo.send("DELETE", path)).status_code == 204
        for method, end in (("GET", ""), ("DELETE", ""), ("POST", "/secret")):
            answer = await bravo.send(method, path + end, token=bravo.staff_token(role=Role.EVENTS))
            assert (answer.status_code, answer.json()["code"]) == (404, "webhook_unknown")


async def test_a_webhook_added_again_under_its_id_has_another_secret(desk: Desk) -> None:
    """Whoever could have it added again would otherwise be shown the secret that its receiver believes."""
    async with node(desk.url, desk.keys) as sends:
        request = asked(desk.receiver)
        _, first = await sends.add(request, by="core")
        await sends.delete(request.id)
        _, second = await sends.add(request, by="core")
        assert first != second
