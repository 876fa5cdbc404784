"""Who belongs to the scheme, and by which keys: the trust list as a node knows it.

The one thing that a node believes without proof is its trust anchor, a file with the coordinator's `sign` key that
came by another way. Everything else it learns from trust lists signed by that key, whose version only grows.

A list says nothing of when it was the newest, so a node keeps beside it when the coordinator last gave it out.
"""

from __future__ import annotations

import math
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog
from msgspec import Struct

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.crypto.keys import VerifyingKey
from compliance.statements import KeyUse, Member, TrustList
from compliance.trust import Anchor, AnchorError, check_trust_list
from gateway.federation.problems import Refusal, RefusalReason
from gateway.federation.settings import ConfigurationError
from gateway.federation.storage.whole_file import write_whole

if TYPE_CHECKING:
    from gateway.federation.http.client import FederationClient

STALE_RETRY_SECONDS = 5

log = structlog.get_logger(__name__)


class TrustReason(StrEnum):
    """Why an anchor or a trust list is refused, in order of precedence."""

    ANCHOR_MALFORMED = "trust_anchor_malformed"
    UNVERIFIED = "trust_list_unverified"
    INCONSISTENT = "trust_list_inconsistent"
    ROLLED_BACK = "trust_list_rolled_back"
    FORKED = "trust_list_forked"
    MISSING = "trust_list_missing"


class TrustError(ConfigurationError):
    """A trust anchor or trust list that can't be relied on. `reason` is stable."""

    def __init__(self, reason: TrustReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class FreshnessReason(RefusalReason):
    """Why a node that keeps its books neither pays nor is paid."""

    TRUST_LIST_TOO_OLD = "trust_list_too_old", 503
    """The coordinator hasn't confirmed it for too long: it may have suspended somebody since. With `Retry-After`."""


class _Confirmation(Struct, frozen=True, forbid_unknown_fields=True):
    """When the coordinator last gave out the list of this digest, in Unix time."""

    sha256: str
    at: float


class TrustStore:
    """The newest trust list that verified, and when it was confirmed. With a `path` both outlive the process."""

    def __init__(self, anchor: Anchor, *, path: Path | None = None, age_seconds_max: float = math.inf) -> None:
        self.anchor = anchor
        self.age_seconds_max = age_seconds_max
        self.confirmed_at = 0.0
        """In Unix time; 0 if nobody knows."""
        self._confirmed_monotonic = time.monotonic()
        self._path = path
        self._kept = False
        try:
            self._scheme, self._anchor_keys = anchor.scheme, anchor.verifying_keys()
        except AnchorError as error:
            raise TrustError(TrustReason.ANCHOR_MALFORMED, str(error)) from error
        self._current: TrustList | None = None
        self._payload = b""
        self._members: dict[str, Member] = {}
        self._token_keys: dict[str, VerifyingKey] = {}

    @classmethod
    def open(cls, anchor: Path | Anchor, *, path: Path | None = None, age_seconds_max: float = math.inf) -> TrustStore:
        """Open a store; take up the trust list kept at `path`, if there is one. Raises OSError, TrustError."""
        try:
            pinned = Anchor.read(anchor) if isinstance(anchor, Path) else anchor
        except (AnchorError, OSError) as error:
            raise TrustError(TrustReason.ANCHOR_MALFORMED, f"CONCORDAT_ANCHOR: {error}") from error
        store = cls(pinned, path=path, age_seconds_max=age_seconds_max)
        if path is not None and path.exists():
            try:
                envelope = msgspec.json.decode(path.read_bytes(), type=Envelope)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise TrustError(TrustReason.UNVERIFIED, f"{path}: {error}") from error
            store._adopt(*store._verify(envelope))
            store._kept = True
            store.confirmed_at = _confirmed_at(_beside(path), store._payload)
        return store

    @property
    def loaded(self) -> bool:
        """Whether there is a trust list yet."""
        return self._current is not None

    @property
    def current(self) -> TrustList:
        """The trust list; raises TrustError before the first one."""
        if self._current is None:
            raise TrustError(TrustReason.MISSING, "no trust list yet: is the coordinator reachable?")
        return self._current

    def age_s(self) -> float:
        """Return how long ago the coordinator confirmed the list.

        A clock that is set back while the node runs makes it no younger.
        """
        return max(abs(time.time() - self.confirmed_at), time.monotonic() - self._confirmed_monotonic)

    @property
    def fresh(self) -> bool:
        """Whether the list is young enough to pay by."""
        return self.age_s() <= self.age_seconds_max

    def require_fresh(self) -> None:
        """Raise Refusal `trust_list_too_old` (503) where the list may not be relied on any more."""
        if not self.fresh:
            detail = f"the trust list wasn't confirmed by the coordinator within {self.age_seconds_max:g} s"
            raise Refusal(FreshnessReason.TRUST_LIST_TOO_OLD, detail, retry_after_s=STALE_RETRY_SECONDS)

    def update(self, envelope: Envelope) -> bool:
        """Take a trust list as the coordinator gives it out now; tell whether it is newer.

        A version never goes back, and one version has one content. Raises TrustError for a list that must not be
        believed; that confirms nothing.
        """
        trust_list, payload = self._verify(envelope)
        newer = self._current is None or trust_list.version > self._current.version
        if self._current is not None:
            if trust_list.version < self._current.version:
                raise TrustError(TrustReason.ROLLED_BACK, f"version {trust_list.version} after {self._current.version}")
            if trust_list.version == self._current.version and payload != self._payload:
                raise TrustError(TrustReason.FORKED, f"a second version {trust_list.version}")
        if newer:
            self._adopt(trust_list, payload)
            self._kept = False
        self.confirmed_at, self._confirmed_monotonic = time.time(), time.monotonic()
        self._keep(envelope)
        return newer

    async def refresh(self, client: FederationClient) -> bool:
        """Fetch the trust list from the coordinator and take it; tell whether it was newer."""
        return self.update(await client.get(f"{client.issuer}/trust-list", Envelope, audience=None))

    def member(self, bic: str) -> Member | None:
        return self._members.get(bic)

    def others(self, bic: str) -> list[tuple[str, str]]:
        """Return every active member but one, by BIC and URL."""
        members = self.current.members
        return [(member.bic, member.url) for member in members if member.status == "active" and member.bic != bic]

    def signing_keys(self, bic: str, *, retired: bool = False) -> dict[str, VerifyingKey]:
        """Return the keys that a member signs documents with, by key id; `retired` adds those it used to."""
        member = self._members.get(bic)
        statuses = ("active", "retired") if retired else ("active",)
        return {} if member is None else self._keys(member, "sign", statuses)

    def auth_key(self, bic: str, kid: str) -> VerifyingKey | None:
        """Return the key that a member says who it is with."""
        member = self._members.get(bic)
        for key in () if member is None else member.keys:
            if (key.kid, key.use, key.status) == (kid, "auth", "active"):
                return VerifyingKey(key.x)
        return None

    def token_key(self, issuer: str, kid: str) -> VerifyingKey | None:
        """Return the coordinator's key for access tokens. (A member's own issuer is that member's affair.)"""
        if self._current is None or issuer != self._current.issuer:
            return None
        return self._token_keys.get(kid)

    def _verify(self, envelope: Envelope) -> tuple[TrustList, bytes]:
        try:
            trust_list = dsse.verify(envelope, TrustList, self._anchor_keys)
        except EvidenceError as error:
            raise TrustError(TrustReason.UNVERIFIED, f"{error.reason}: {error}") from error
        try:
            check_trust_list(trust_list, self.anchor)
        except AnchorError as error:
            raise TrustError(TrustReason.INCONSISTENT, str(error)) from error
        return trust_list, canonical.encode(trust_list)

    def _adopt(self, trust_list: TrustList, payload: bytes) -> None:
        self._current, self._payload = trust_list, payload
        self._members = {member.bic: member for member in trust_list.members}
        self._token_keys = self._keys(self._members[self.anchor.bic], "token", ("active",))

    def _keys(self, member: Member, use: KeyUse, statuses: tuple[str, ...]) -> dict[str, VerifyingKey]:
        return {
            key.kid: VerifyingKey(key.x).within(self._scheme)
            for key in member.keys
            if key.use == use and key.status in statuses
        }

    def _keep(self, envelope: Envelope) -> None:
        """Write the list, if it isn't yet, and when it was confirmed. It counts even where that fails.

        What a disk lost is asked for after the next start, before anybody is paid by an older list.
        """
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if not self._kept:
                write_whole(self._path, msgspec.json.encode(envelope), durable=True)
                self._kept = True
            confirmation = _Confirmation(canonical.digest(self._payload), self.confirmed_at)
            # Not worth waiting for the disk: a file that a crash leaves empty confirms nothing.
            write_whole(_beside(self._path), msgspec.json.encode(confirmation))
        except OSError as error:
            log.warning("trust list not kept on disk", error=str(error)[:200])


def _beside(path: Path) -> Path:
    return path.with_name(path.stem + ".confirmed.json")


def _confirmed_at(path: Path, payload: bytes) -> float:
    """Return when a kept list was confirmed, 0 if that can't be read or is of another list."""
    try:
        confirmation = msgspec.json.decode(path.read_bytes(), type=_Confirmation)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return 0.0
    return confirmation.at if confirmation.sha256 == canonical.digest(payload) else 0.0
