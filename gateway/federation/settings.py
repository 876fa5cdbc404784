"""What a node is told by its environment: who it is, where it listens, where its data lies."""

from __future__ import annotations

import json
import os
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from compliance.bic import HEAD_OFFICE, BicError, normal_bic

TRUST_LIST = "trust-list.json"
LOG_LEVELS = ("debug", "info", "warning", "error")


class ConfigurationError(Exception):
    """Something that whoever runs the node must mend. The message says what and how."""


class SettingsError(ConfigurationError):
    """A setting is missing or wrong. The message names the variable and says what it should hold."""


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
    data_dir: Path
    database_url: str | None = None
    anchor: Path | None = None
    coordinator_url: str | None = None
    rulebook: Path | None = None
    """By which the settlement agent asks for approvals, whatever the coordinator's asks for."""
    statement_seconds: int = 5
    """How long one statement may take at the database."""
    log_level: str = "info"
    trust_list_age_seconds_max: int = 86_400
    """For how long a bank goes on paying others by a trust list that the coordinator doesn't confirm."""
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
        coordinator_url = env.get(prefix + "COORDINATOR_URL")
        log_level = env.get(prefix + "LOG_LEVEL", "info").lower()
        if log_level not in LOG_LEVELS:
            raise SettingsError(f"{prefix}LOG_LEVEL: expected one of {', '.join(LOG_LEVELS)}, found {log_level!r}")
        return cls(
            bic=_registered(bic, env[prefix + "BIC"], data_dir / TRUST_LIST, path("ANCHOR")),
            url=_url(f"{prefix}URL", env.get(prefix + "URL", f"http://{host}:{port}")),
            host=host,
            port=port,
            private_host=env.get(prefix + "PRIVATE_HOST", "127.0.0.1"),
            private_port=private_port,
            data_dir=data_dir,
            database_url=env.get(prefix + "DATABASE_URL", env.get("DATABASE_URL")),
            anchor=path("ANCHOR"),
            coordinator_url=None if coordinator_url is None else _url(f"{prefix}COORDINATOR_URL", coordinator_url),
            rulebook=path("RULEBOOK"),
            log_level=log_level,
            limits=EdgeLimits(**_numbers(prefix, env, *(field.name for field in fields(EdgeLimits)))),
            **_numbers(prefix, env, "statement_seconds", "trust_list_age_seconds_max", least=1),
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


def _port(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65_536):
        raise SettingsError(f"{name}: expected a port number from 1 to 65535, found {text!r}")
    return int(text)


def _url(name: str, text: str) -> str:
    if not re.fullmatch(r"https?://[^/\s?#]+(/[^\s?#]*)?", text):
        raise SettingsError(f"{name}: expected an http:// or https:// base URL, found {text!r}")
    return text.rstrip("/")
