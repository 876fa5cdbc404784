"""Profiles: where somebody signs in, as whom and by which key, so that no command has to be told each time."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from gateway.federation.settings import ConfigurationError

DEFAULT = "default"
ENVIRONMENT = "CONCORDAT_PROFILE"
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_DECIDE = ("list", "propose", "confirm", "reject", "withdraw", "calendar")
_AT_BANK = (
    "import",
    "file-status",
    "file-cancel",
    "payments",
    "payment",
    "reconcile",
    "webhook-add",
    "webhook-list",
    "webhook-secret",
    "webhook-replay",
    "webhook-delete",
)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """`client` signs in at `url`, which belongs to `bic`, by the private key in the file `key`."""

    url: str
    bic: str
    client: str
    key: str
    role: str = ""
    """The role that tokens are for, where a client of a bank has several; perhaps with the books after `read`."""

    def defaults(self) -> dict[str, Any]:
        """Return what commands take from a profile where neither an option nor the environment says it."""
        at_coordinator = {
            "coordinator": self.url,
            "coordinator_bic": self.bic,
            "client": self.client,
            "key": self.key,
        }
        at_bank = {"url": self.url, "bank": self.bic, "client": self.client, "key": self.key}
        return {
            "console": at_coordinator,
            "export": at_coordinator,
            "decide": dict.fromkeys(_DECIDE, at_coordinator),
            "participant": dict.fromkeys(_AT_BANK, at_bank),
        }


def read(name: str) -> Profile:
    """Return a profile that `concordat login` wrote. Raises ConfigurationError."""
    path = path_of(name)
    try:
        said = json.loads(path.read_bytes())
        return Profile(**{field.name: str(said[field.name]) for field in fields(Profile)})
    except FileNotFoundError:
        raise ConfigurationError(f"no profile {name}: `concordat login {name}` makes it") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path}: not a profile: {error}; `concordat login {name}` writes it anew") from error


def find() -> Profile | None:
    """Return the profile that the environment names, or else the default one if there is one."""
    name = os.environ.get(ENVIRONMENT)
    if name:
        return read(name)
    return read(DEFAULT) if path_of(DEFAULT).exists() else None


def write(name: str, profile: Profile) -> Path:
    """Keep a profile, readable by its owner only, in place of one of the same name."""
    from gateway.federation.storage.whole_file import write_whole

    path = path_of(name)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A file that is written as a whole has mode 0600.
    write_whole(path, json.dumps(asdict(profile), indent=2).encode() + b"\n")
    return path


def path_of(name: str) -> Path:
    """Return where a profile is kept. Raises ConfigurationError for what can't be a name."""
    from platformdirs import user_config_path

    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigurationError(f"profile {name!a}: expected letters, digits, '.', '_' and '-'")
    return user_config_path("concordat") / "profiles" / f"{name}.json"
