"""What a node is told by its environment: who it is, where it listens, where its data lies."""

from __future__ import annotations

import json
import os
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from compliance.bic import HEAD_OFFICE, BicError, normal_bic

UTC = ZoneInfo("UTC")
TRUST_LIST = "trust-list.json"
FUNDING_ACCOUNT = "settlement-funding"
LOG_LEVELS = ("debug", "info", "warning", "error")


class ConfigurationError(Exception):
    """Something that whoever runs the node must mend. The message says what and how."""


class SettingsError(ConfigurationError):
    """A setting is missing or wrong. The message names the variable and says what it should hold."""


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """How others are called: by nodes and commands alike."""

    tls_ca: Path | None = None
    """A bundle (PEM) of the authorities that others' certificates are believed by; the usual public ones without it."""
    tls_client_cert: Path | None = None
    tls_client_key: Path | None = None
    """What this side shows of itself, to an ingress that asks for a certificate."""
    proxy: str | None = None
    """The HTTP proxy that all calls go through, but to the loopback interface."""
    plain_http: bool = False
    """Whether http:// does everywhere, because something else encrypts; on the loopback interface it always does."""

    @classmethod
    def from_env(cls, prefix: str = "CONCORDAT_", environ: Mapping[str, str] | None = None) -> Outgoing:
        """Read the environment's settings; raises SettingsError."""
        env = {name: value for name, value in (os.environ if environ is None else environ).items() if value}
        ca = _file(prefix + "TLS_CA", env)
        cert, key = _pair(prefix + "TLS_CLIENT_CERT", prefix + "TLS_CLIENT_KEY", env)
        proxy = env.get(prefix + "PROXY")
        if proxy is not None and not re.fullmatch(r"https?://[^/\s?#]+/?", proxy):
            raise SettingsError(f"{prefix}PROXY: expected an http:// or https:// address, found {proxy!r}")
        plain = env.get(prefix + "PLAIN_HTTP", "no").lower()
        if plain not in ("yes", "no"):
            raise SettingsError(f"{prefix}PLAIN_HTTP: expected yes or no, found {plain!r}")
        return cls(tls_ca=ca, tls_client_cert=cert, tls_client_key=key, proxy=proxy, plain_http=plain == "yes")

    def allows(self, scheme: str, host: str) -> bool:
        """Tell whether somebody may be called there."""
        return scheme == "https" or self.plain_http or is_loopback(host)


def is_loopback(host: str) -> bool:
    """Tell whether a host of a URL is this machine itself, which nobody listens in on between."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


ORDER_BYTES_MAX = 128 * 2**20
"""Of an order to the settlement agent: as much as our own takes in one message."""


@dataclass(frozen=True, kw_only=True)
class EdgeLimits:
    """What a node takes from outside. A rate of 0 is none; up to 20 seconds' worth may come at once."""

    connections_max: int = 2_000
    connections_per_address_max: int = 1_000
    head_seconds: float = 10
    """From a request's first byte to its last header."""
    body_seconds: float = 60
    """From a request's first byte to its last, and for an answer's reader who stands still."""
    address_requests_per_s: int = 100
    """Requests without a good token, by IPv4 address or IPv6 /64."""
    client_requests_per_s: int = 500
    """Requests of one member, operator or auditor; a bank's own people have no limit."""


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """The settings every institution's node has.

    `bic` is in its normal form, but for an institution that was registered under a BIC with XXX by an earlier release:
    its kept trust list, or its anchor, says so.
    `url` is the public base URL, without a slash at its end. `data_dir` holds the keys, the trust list and, where
    `database_url` is None, the embedded PostgreSQL.
    """

    bic: str
    url: str
    host: str = "127.0.0.1"
    port: int = 8000
    private_host: str = "127.0.0.1"
    private_port: int | None = None
    """Where metrics and the details of readiness are served; nowhere if there is no port."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    """What the public port is served with over TLS; without, an ingress in front of it ends TLS."""
    data_dir: Path
    database_url: str | None = None
    anchor: Path | None = None
    coordinator_url: str | None = None
    rulebook: Path | None = None
    """By which the settlement agent asks for approvals, whatever the coordinator's asks for."""
    statement_seconds: int = 5
    """How long one statement may take at the database."""
    order_bytes_max: int = ORDER_BYTES_MAX
    """At the coordinator: how long an order the settlement agent takes."""
    funding_account: str = FUNDING_ACCOUNT
    """The code of a bank's internal accounts that stand against its nostro outside of cycles, one in each currency."""
    time_zone: ZoneInfo = UTC
    """In which a bank's days begin and end, on statements of its accounts."""
    log_level: str = "info"
    trust_list_age_seconds_max: int = 86_400
    """For how long a bank goes on paying others by a trust list that the coordinator doesn't confirm."""
    webhook_hosts: tuple[str, ...] = ()
    """At a bank: the hosts that its events may be sent to; `*.bank.example` is all below that name."""
    webhook_networks: tuple[str, ...] = ()
    """At a bank: private networks that these hosts may be in."""
    limits: EdgeLimits = EdgeLimits()

    @property
    def private(self) -> tuple[str, int] | None:
        return None if self.private_port is None else (self.private_host, self.private_port)

    @property
    def keys_dir(self) -> Path:
        return self.data_dir / "keys"

    @property
    def trust_list_path(self) -> Path:
        return self.data_dir / TRUST_LIST

    @classmethod
    def from_env(cls, prefix: str = "CONCORDAT_", environ: Mapping[str, str] | None = None) -> NodeSettings:
        """Read the settings from environment variables; raises SettingsError.

        `<prefix>BIC` and `<prefix>DATA_DIR` are required. `<prefix>URL` defaults to the address listened on, and
        `<prefix>DATABASE_URL` to `DATABASE_URL`. An empty variable counts as absent.
        """
        env = {name: value for name, value in (os.environ if environ is None else environ).items() if value}

        def path(name: str) -> Path | None:
            return Path(env[prefix + name]).expanduser() if prefix + name in env else None

        bic = _bic(f"{prefix}BIC", env.get(prefix + "BIC", ""))
        data_dir = path("DATA_DIR")
        if data_dir is None:
            raise SettingsError(f"{prefix}DATA_DIR: expected a directory for keys and data, found nothing")
        host = env.get(prefix + "HOST", "127.0.0.1")
        port = _port(f"{prefix}PORT", env.get(prefix + "PORT", "8000"))
        private_port = (
            _port(f"{prefix}PRIVATE_PORT", env[prefix + "PRIVATE_PORT"]) if prefix + "PRIVATE_PORT" in env else None
        )
        if private_port == port:
            raise SettingsError(f"{prefix}PRIVATE_PORT: expected another port than {prefix}PORT, found {port} for both")
        tls_cert, tls_key = _pair(prefix + "TLS_CERT", prefix + "TLS_KEY", env)
        outgoing = Outgoing.from_env(prefix, env)
        coordinator_url = env.get(prefix + "COORDINATOR_URL")
        log_level = env.get(prefix + "LOG_LEVEL", "info").lower()
        if log_level not in LOG_LEVELS:
            raise SettingsError(f"{prefix}LOG_LEVEL: expected one of {', '.join(LOG_LEVELS)}, found {log_level!r}")
        return cls(
            bic=_registered(bic, env[prefix + "BIC"], data_dir / TRUST_LIST, path("ANCHOR")),
            url=_url(
                f"{prefix}URL", env.get(prefix + "URL", f"http{'s' if tls_cert else ''}://{host}:{port}"), outgoing
            ),
            host=host,
            port=port,
            private_host=env.get(prefix + "PRIVATE_HOST", "127.0.0.1"),
            private_port=private_port,
            tls_cert=tls_cert,
            tls_key=tls_key,
            data_dir=data_dir,
            database_url=env.get(prefix + "DATABASE_URL", env.get("DATABASE_URL")),
            anchor=path("ANCHOR"),
            coordinator_url=None
            if coordinator_url is None
            else _url(f"{prefix}COORDINATOR_URL", coordinator_url, outgoing),
            rulebook=path("RULEBOOK"),
            funding_account=_account(f"{prefix}FUNDING_ACCOUNT", env.get(prefix + "FUNDING_ACCOUNT", FUNDING_ACCOUNT)),
            time_zone=_zone(f"{prefix}TIME_ZONE", env.get(prefix + "TIME_ZONE", UTC.key)),
            log_level=log_level,
            webhook_hosts=_list(f"{prefix}WEBHOOK_HOSTS", env, _host),
            webhook_networks=_list(f"{prefix}WEBHOOK_NETWORKS", env, _network),
            limits=EdgeLimits(**_numbers(prefix, env, *(field.name for field in fields(EdgeLimits)))),
            **_numbers(prefix, env, "statement_seconds", "order_bytes_max", "trust_list_age_seconds_max", least=1),
        )


def _bic(variable: str, text: str) -> str:
    try:
        return normal_bic(text)
    except BicError as error:
        raise SettingsError(f"{variable}: expected this institution's BIC: {error}") from None


def _registered(bic: str, text: str, *kept: Path | None) -> str:
    """Return a BIC in its normal form, or with the XXX that it was written with where a kept document has it so."""
    longer = bic + HEAD_OFFICE
    return longer if text.strip().upper() == longer and any(file and _names(file, longer) for file in kept) else bic


def _names(file: Path, bic: str) -> bool:
    """Tell whether a trust list, or an anchor, has an institution of exactly this BIC. Proves nothing."""
    try:
        document = json.loads(file.read_bytes())
        said = document if "payload" not in document else json.loads(b64decode(document["payload"]))
        return any(member["bic"] == bic for member in said.get("members", [said]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def _numbers(prefix: str, env: Mapping[str, str], *names: str, least: int = 0) -> dict[str, int]:
    """Return those of these settings that are there; raises SettingsError for one that isn't such a whole number."""
    numbers = {}
    for name in names:
        variable = prefix + name.upper()
        if variable in env:
            if not re.fullmatch(r"[0-9]{1,9}", env[variable], re.ASCII) or int(env[variable]) < least:
                bound = f" of at least {least}" if least else ""
                raise SettingsError(f"{variable}: expected a whole number{bound}, found {env[variable]!r}")
            numbers[name] = int(env[variable])
    return numbers


def _account(name: str, text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:/-]{1,64}", text):
        raise SettingsError(f"{name}: expected the code of an account, found {text!r}")
    return text


def _zone(name: str, text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise SettingsError(f"{name}: expected a time zone such as Europe/Berlin, found {text!r}") from error


def _list(variable: str, env: Mapping[str, str], entry: Callable[[str, str], str]) -> tuple[str, ...]:
    """Return the entries of a list with commas between; raises SettingsError for one that isn't such an entry."""
    return tuple(entry(variable, text.strip()) for text in env.get(variable, "").split(",") if text.strip())


def _host(name: str, text: str) -> str:
    if not re.fullmatch(r"(\*\.)?[A-Za-z0-9:]([A-Za-z0-9.:-]*[A-Za-z0-9:])?", text):
        raise SettingsError(f"{name}: expected the names of hosts with commas between, found {text!r}")
    return text


def _network(name: str, text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError:
        raise SettingsError(f"{name}: expected networks as 10.1.0.0/16 with commas between, found {text!r}") from None


def _port(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65_536):
        raise SettingsError(f"{name}: expected a port number from 1 to 65535, found {text!r}")
    return int(text)


def _url(name: str, text: str, outgoing: Outgoing) -> str:
    if not re.fullmatch(r"https?://[^/\s?#]+(/[^\s?#]*)?", text):
        raise SettingsError(f"{name}: expected an http:// or https:// base URL, found {text!r}")
    parts = urlsplit(text)
    if not outgoing.allows(parts.scheme, parts.hostname or ""):
        raise SettingsError(
            f"{name}: expected https://, found {text!r}; CONCORDAT_PLAIN_HTTP=yes takes http:// where something else"
            " encrypts"
        )
    return text.rstrip("/")


def _pair(cert: str, key: str, env: Mapping[str, str]) -> tuple[Path | None, Path | None]:
    """Return the files of a certificate and its key: both, or neither."""
    files = _file(cert, env), _file(key, env)
    if (files[0] is None) != (files[1] is None):
        raise SettingsError(f"{cert} and {key}: expected both or neither")
    return files


def _file(name: str, env: Mapping[str, str]) -> Path | None:
    if name not in env:
        return None
    path = Path(env[name]).expanduser()
    if not path.is_file():
        raise SettingsError(f"{name}: no such file: {path}")
    return path
