"""What a bank sends leads to where its node's settings allow and nowhere else, and what answers costs it little."""

from __future__ import annotations

import asyncio

import httpcore
import pytest
from running_banks import Town
from support import uuid7
from webhook_receiver import receiving

from gateway.federation.problems import Refusal
from gateway.federation.settings import NodeSettings, SettingsError
from participants.roles import Role
from participants.webhooks import targets
from participants.webhooks.targets import TargetReason, Targets, WebhookClient

MALFORMED, INSECURE, NOT_ALLOWED = TargetReason
NAMED = Targets(["core.bank.example", "*.hooks.example", "127.0.0.1", "localhost"], [])


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://core.bank.example/in?x=1", None),
        ("https://CORE.bank.example:8443/in", None),
        ("https://a.b.hooks.example/", None),
        ("http://127.0.0.1:9/", None),
        ("http://localhost/", None),
        ("http://core.bank.example/in", INSECURE),
        ("https://hooks.example/", NOT_ALLOWED),
        ("https://evilhooks.example/", NOT_ALLOWED),
        ("https://core.bank.example.evil.example/", NOT_ALLOWED),
        ("https://core.bank.example./", NOT_ALLOWED),
        ("https://169.254.169.254/latest/meta-data", NOT_ALLOWED),
        ("https://2130706433/", NOT_ALLOWED),
        ("https://[::1]/", NOT_ALLOWED),
        ("https://core.bank.example@evil.example/", MALFORMED),
        ("https://core.bank.example\\@evil.example/", MALFORMED),
        ("https://core.bank.example/#there", MALFORMED),
        ("https://core.bank.example/a b", MALFORMED),
        ("https://core.bank.example/\r\nHost: evil.example", MALFORMED),
        ("https://cöre.bank.example/", MALFORMED),
        ("https://core.bank.example:99999/", MALFORMED),
        ("https://[::1/", MALFORMED),
        ("https:///in", MALFORMED),
        ("core.bank.example", MALFORMED),
        ("ftp://core.bank.example/", MALFORMED),
        ("file:///etc/passwd", MALFORMED),
        ("gopher://127.0.0.1/", MALFORMED),
    ],
)
def test_which_urls_are_taken(url: str, reason: TargetReason | None) -> None:
    if reason is None:
        NAMED.require(url)
        return
    with pytest.raises(Refusal) as refused:
        NAMED.require(url)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.5.5", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
        "2002:a9fe:a9fe::", "2002:808:808::", "64:ff9b::808:808", "::ffff:8.8.8.8", "fec0::1",
        "feff::1", "3fff::1", "5f00::1", "100::1", "64:ff9b:1::808:808",
        "2001::1", "2001:db8::1", "2001:20::1", "2606:4700::5efe:a00:1", "2606:4700::200:5efe:a00:1", "192.0.0.8",
        "192.0.0.170", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.31.196.1",
    ],
)  # fmt: skip
def test_which_addresses_are_nobodys_business(address: str) -> None:
    assert not NAMED.allows(address)


def test_private_networks_are_allowed_by_name() -> None:
    assert all(NAMED.allows(address) for address in ("93.184.216.34", "2606:2800:220:1::1"))
    inside = Targets([], ["10.1.0.0/16", "fd00:1::/32"])
    assert [inside.allows(address) for address in ("10.1.2.3", "10.2.0.1", "fd00:1::9", "fd00:2::9")] == [
        True, False, True, False,
    ]  # fmt: skip


async def test_the_address_behind_a_name_is_looked_at_when_it_is_connected_to() -> None:
    """A name that is allowed and leads to this machine, or into a private network, leads nowhere."""
    async with receiving() as receiver:
        client = WebhookClient(NAMED)
        for host in ("localhost", "127.0.0.1"):
            with pytest.raises(httpcore.ConnectError, match="not an address that may be sent to"):
                await client.post(f"http://{host}:{receiver.port}/", {}, b"{}")
        await client.close()
        assert receiver.messages == []


async def test_answers_cost_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that never ends, one that never comes, one with endless headers: an end, and the connection is let go."""
    monkeypatch.setattr(targets, "SEND_SECONDS_MAX", 1.0)
    async with receiving() as receiver:
        client = WebhookClient(Targets(["127.0.0.1"], ["127.0.0.0/8"]))
        receiver.answer = lambda _: b"HTTP/1.1 200 X\r\nContent-Length: 50000000\r\n\r\n" + b"x" * 40_000
        assert await client.post(receiver.url, {}, b"{}") == (200, None)
        receiver.answer = lambda _: b"HTTP/1.1 200 X\r\n" + b"X-More: %s\r\n" % (b"x" * 1_000) * 300
        with pytest.raises(httpcore.ProtocolError):
            await client.post(receiver.url, {}, b"{}")
        receiver.answer = lambda _: None
        with pytest.raises((TimeoutError, httpcore.TimeoutException)):
            async with asyncio.timeout(20):
                await client.post(receiver.url, {}, b"{}")
        await client.close()


@pytest.mark.parametrize("name", ["Retry-After", "retry-after", "RETRY-AFTER", "rEtRy-aFtEr"])
async def test_when_to_try_again_is_read_however_it_is_written(name: str) -> None:
    async with receiving() as receiver:
        client = WebhookClient(Targets(["127.0.0.1"], ["127.0.0.0/8"]))
        for value, seconds in (("7", 7), ("soon", None), ("9" * 9, None)):
            head = f"HTTP/1.1 503 X\r\n{name}: {value}\r\nContent-Length: 0\r\n\r\n".encode()
            receiver.answer = lambda _, head=head: head  # type: ignore[misc]
            assert await client.post(receiver.url, {}, b"{}") == (503, seconds)
        await client.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_nobody_has_a_bank_send_its_books_elsewhere(town: Town) -> None:
    alpha = town.alpha
    for url, reason in (
        ("https://evil.example/", NOT_ALLOWED),
        ("https://169.254.169.254/latest/meta-data", NOT_ALLOWED),
        ("http://10.0.0.1/", INSECURE),
    ):
        answer = await alpha.send("POST", "/webhooks", {"id": uuid7(), "url": url})
        assert (answer.status_code, answer.json()["code"]) == (422, reason)
    for role in set(Role) - {Role.EVENTS}:
        body = {"id": uuid7(), "url": "http://127.0.0.1:9/"}
        answer = await alpha.send("POST", "/webhooks", body, token=alpha.staff_token(role=role))
        assert (answer.status_code, answer.json()["code"]) == (403, "role_not_allowed")
    assert await alpha.get("/webhooks") == []


def test_without_a_setting_nothing_is_sent_anywhere() -> None:
    given = {"CONCORDAT_BIC": "ALDRXXA0", "CONCORDAT_DATA_DIR": "data"}
    assert NodeSettings.from_env(environ=given).webhook_hosts == ()
    settings = NodeSettings.from_env(
        environ={
            **given,
            "CONCORDAT_WEBHOOK_HOSTS": "core.bank.example, *.hooks.example",
            "CONCORDAT_WEBHOOK_NETWORKS": "10.1.0.0/16",
        }
    )
    assert settings.webhook_hosts == ("core.bank.example", "*.hooks.example")
    assert settings.webhook_networks == ("10.1.0.0/16",)
    for name, value in (("HOSTS", "https://core.bank.example"), ("HOSTS", "*"), ("NETWORKS", "10.1.2.3/16")):
        with pytest.raises(SettingsError, match=f"CONCORDAT_WEBHOOK_{name}"):
            NodeSettings.from_env(environ={**given, f"CONCORDAT_WEBHOOK_{name}": value})
