"""TLS: nodes that serve it, and calls that believe a bundle, show a certificate, use a proxy, and refuse http."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support import free_port

from gateway.federation.http.peers import Peers
from gateway.federation.settings import NodeSettings, Outgoing, SettingsError
from participants.webhooks.targets import Targets, WebhookClient
from tests.agent_harness import Scheme

CONCORDAT = Path(sys.executable).with_name("concordat")
WAIT_S = 60


@dataclass
class Authority:
    """A certificate authority of the test's, for this machine's address."""

    directory: Path

    def __post_init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.ca = self.directory / "ca.pem"
        self.certificate = self._signed("authority", self.key, authority=True)
        self.ca.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return the files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        files = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        files[0].write_bytes(self._signed(name, key).public_bytes(serialization.Encoding.PEM))
        form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
        return files

    def _signed(self, name: str, key: ec.EllipticCurvePrivateKey, *, authority: bool = False) -> x509.Certificate:
        def named(common: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])

        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder(named("authority"), named(name), key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if not authority:
            names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.key, hashes.SHA256())


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def fetch(url: str, outgoing: Outgoing) -> httpx.Response:
    peers = Peers(timeout_s=10, outgoing=outgoing)
    try:
        return await peers.send("GET", url, headers={})
    finally:
        await peers.close()


async def test_a_node_serves_tls_and_is_believed_by_the_bundle(
    authority: Authority, tmp_path: Path, new_database: Any
) -> None:
    cert, key = authority.issue("agent")
    port, private = free_port(), free_port()
    environment = Scheme(tmp_path).environment(f"https://127.0.0.1:{port}", await new_database())
    environment |= {"CONCORDAT_TLS_CERT": str(cert), "CONCORDAT_TLS_KEY": str(key), "CONCORDAT_LOG_LEVEL": "error"}
    environment["CONCORDAT_PRIVATE_PORT"] = str(private)
    process = _serving(environment)
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                assert process.poll() is None
                try:
                    answer = await fetch(f"https://127.0.0.1:{port}/health/live", Outgoing(tls_ca=authority.ca))
                    break
                except httpx.ConnectError:
                    await asyncio.sleep(0.05)
        assert answer.status_code == 200
        assert (await fetch(f"http://127.0.0.1:{private}/health/live", Outgoing())).status_code == 200
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await fetch(f"https://127.0.0.1:{port}/health/live", Outgoing())
        with pytest.raises(httpx.TransportError):
            await fetch(f"http://127.0.0.1:{port}/health/live", Outgoing())
    finally:
        process.terminate()
        process.wait(WAIT_S)


async def test_a_call_shows_its_certificate_where_one_is_asked_for(authority: Authority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server"))
    context.load_verify_locations(authority.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    cert, key = authority.issue("client")
    async with _answering(context) as (port, _):
        url = f"https://127.0.0.1:{port}/"
        shown = Outgoing(tls_ca=authority.ca, tls_client_cert=cert, tls_client_key=key)
        assert (await fetch(url, shown)).status_code == 204
        with pytest.raises(httpx.TransportError):
            await fetch(url, Outgoing(tls_ca=authority.ca))


async def test_calls_go_through_the_proxy_but_to_this_machine() -> None:
    async with _answering() as (port, asked):
        outgoing = Outgoing(proxy=f"http://127.0.0.1:{port}", plain_http=True)
        assert (await fetch("http://bank.example:8000/lanes", outgoing)).status_code == 204
        assert asked == ["GET http://bank.example:8000/lanes HTTP/1.1"]
        async with _answering() as (other, direct):
            assert (await fetch(f"http://127.0.0.1:{other}/lanes", outgoing)).status_code == 204
            assert direct == ["GET /lanes HTTP/1.1"]


@pytest.mark.parametrize("host", ["bank.example", "10.0.0.1", "127.0.0.1.example"])
async def test_nobody_is_called_without_tls_over_a_network(host: str) -> None:
    with pytest.raises(httpx.UnsupportedProtocol, match="https:// is required"):
        await fetch(f"http://{host}/", Outgoing())


def test_settings_of_tls() -> None:
    base = {"CONCORDAT_BIC": "ALDRXXA0", "CONCORDAT_DATA_DIR": "data"}

    def read(**more: str) -> NodeSettings:
        return NodeSettings.from_env(environ=base | {f"CONCORDAT_{name}": value for name, value in more.items()})

    for url in ("http://127.0.0.1:7102", "http://localhost:1", "http://[::1]:1", "https://bank.example"):
        assert read(URL=url).url == url
    assert read(URL="http://bank.example", PLAIN_HTTP="yes").url == "http://bank.example"
    for name in ("URL", "COORDINATOR_URL"):
        with pytest.raises(SettingsError, match=f"CONCORDAT_{name}: expected https://"):
            read(**{name: "http://bank.example"})
    for wrong in (
        {"TLS_CERT": __file__},
        {"TLS_CERT": __file__, "TLS_KEY": "/nowhere"},
        {"TLS_CA": "/nowhere"},
        {"TLS_CLIENT_KEY": __file__},
        {"PROXY": "socks5://127.0.0.1:1"},
        {"PLAIN_HTTP": "perhaps"},
    ):
        with pytest.raises(SettingsError, match="CONCORDAT_"):
            read(**wrong)
    assert read(TLS_CERT=__file__, TLS_KEY=__file__).url == "https://127.0.0.1:8000"


def _serving(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([CONCORDAT, "agent", "serve"], env={**os.environ, **environment})


@asynccontextmanager
async def _answering(context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[str]]]:
    """Answer every request with 204; yield the port, and the lines that requests begin with."""
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b"\r\n")[0].decode())
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()


async def test_a_webhook_goes_to_whom_the_bundle_vouches_for(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    certificate = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.load_cert_chain(*authority.issue("core"))
    targets = Targets(["127.0.0.1"], ["127.0.0.0/8"])
    async with await asyncio.start_server(taken, "127.0.0.1", 0, ssl=certificate) as core:
        url = f"https://127.0.0.1:{core.sockets[0].getsockname()[1]}/events"
        stranger = WebhookClient(targets)
        with pytest.raises(httpcore.ConnectError):
            await stranger.post(url, {}, b"{}")
        await stranger.close()
        monkeypatch.setenv("CONCORDAT_TLS_CA", str(authority.ca))
        known = WebhookClient(targets)
        assert (await known.post(url, {}, b"{}"))[0] == 204
        await known.close()
