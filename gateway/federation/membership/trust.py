"""Who belongs to the scheme, and by which keys: the trust list as a node knows it.

The one thing that a node believes without proof is its trust anchor, a file with the coordinator's `sign` key that
came by another way. Everything else it learns from trust lists signed by that key, whose version only grows.

A list says nothing of when it was the newest, so a node keeps beside it the coordinator's last word that it is, signed
and good for a time: whoever answers in the coordinator's place can keep no list alive.
"""

from __future__ import annotations

import math
import time
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path

import msgspec
import structlog

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.crypto.keys import VerifyingKey
from compliance.statements import KeyUse, Member, TrustList, TrustListConfirmation
from compliance.trust import Anchor, AnchorError, instant, read_trust_list, undated
from gateway.federation.http.client import FederationClient, RemoteProblem
from gateway.federation.problems import Refusal, RefusalReason
from gateway.federation.settings import ConfigurationError
from gateway.federation.storage.whole_file import write_whole

STALE_RETRY_SECONDS = 5
CLOCK_SKEW_MAX_S = 60

log = structlog.get_logger(__name__)


class TrustReason(StrEnum):
    """Why an anchor or a trust list is refused, in order of precedence."""

    ANCHOR_MALFORMED = "trust_anchor_malformed"
    UNVERIFIED = "trust_list_unverified"
    INCONSISTENT = "trust_list_inconsistent"
    ROLLED_BACK = "trust_list_rolled_back"
    FORKED = "trust_list_forked"
    UNCONFIRMED = "trust_list_unconfirmed"
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


class TrustStore:
    """The newest trust list that verified, and when it was confirmed. With a `path` both outlive the process."""

    def __init__(self, anchor: Anchor, *, path: Path | None = None, age_seconds_max: float = math.inf) -> None:
        self.anchor = anchor
        self.age_seconds_max = age_seconds_max
        self.confirmed_at = 0.0
        """By the coordinator's clock, in Unix time; 0 if nobody knows."""
        self.expires_at = 0.0
        self._confirmed_monotonic = time.monotonic()
        self._path = path
        try:
            self.scheme, self._anchor_keys = anchor.scheme, anchor.verifying_keys()
        except AnchorError as error:
            raise TrustError(TrustReason.ANCHOR_MALFORMED, str(error)) from error
        self._current: TrustList | None = None
        self._payload, self._sha256 = b"", ""
        self._unkept: Envelope | None = None
        """The list, as long as it isn't on disk."""
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
            store._take_up_confirmation(_beside(path))
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
        """Whether the list counts still, and is young enough to pay by."""
        return time.time() < self.expires_at and self.age_s() <= self.age_seconds_max

    def require_fresh(self) -> None:
        """Raise Refusal `trust_list_too_old` (503) where the list may not be relied on any more."""
        if not self.fresh:
            detail = "the coordinator's last word that the trust list is the newest doesn't count any more"
            raise Refusal(FreshnessReason.TRUST_LIST_TOO_OLD, detail, retry_after_s=STALE_RETRY_SECONDS)

    def update(self, envelope: Envelope) -> bool:
        """Take a trust list; tell whether it is newer. It counts once it is confirmed.

        A version never goes back, and one version has one content. Raises TrustError for a list that must not be
        believed.
        """
        trust_list, payload = self._verify(envelope)
        newer = self._current is None or trust_list.version > self._current.version
        if self._current is not None:
            if trust_list.version < self._current.version:
                raise TrustError(TrustReason.ROLLED_BACK, f"version {trust_list.version} after {self._current.version}")
            if trust_list.version == self._current.version and payload != self._payload:
                # A program of before kept the same list without the times of keys.
                if undated(trust_list) != self._current:
                    raise TrustError(TrustReason.FORKED, f"a second version {trust_list.version}")
                newer = True
        if newer:
            self._adopt(trust_list, payload)
            self._unkept = envelope
            self._keep()
        return newer

    def confirm(self, envelope: Envelope) -> bool:
        """Take the coordinator's word that a list is the newest; False if that is a newer one than this.

        An earlier word than the last one, or of an older list, changes nothing: somebody says it again. Raises
        TrustError.
        """
        word = self._read_confirmation(envelope)
        if self._current is None or word.version > self._current.version:
            return False
        if word.version < self._current.version:
            raise TrustError(TrustReason.ROLLED_BACK, f"version {word.version} after {self._current.version}")
        if word.sha256 != self._sha256:
            if undated(self._current) == self._current:
                return False  # What a program of before kept: the same list with the times of keys is to be fetched.
            raise TrustError(TrustReason.FORKED, f"a second version {word.version}")
        if self._take_confirmation(word):
            self._keep(envelope)
        return True

    async def refresh(self, client: FederationClient) -> bool:
        """Have the trust list confirmed by the coordinator, and fetch a newer one; tell whether there was one."""
        newer = False
        while not self.confirm(await _confirmation(client)):
            newest = await client.get(f"{client.issuer}/v2/trust-list", Envelope, audience=None)
            if not self.update(newest):
                # What is confirmed isn't what is given out.
                raise TrustError(TrustReason.UNCONFIRMED, f"version {self.current.version} isn't the newest")
            newer = True
        return newer

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
            trust_list = read_trust_list(envelope, self.anchor, self._anchor_keys)
        except EvidenceError as error:
            raise TrustError(TrustReason.UNVERIFIED, f"{error.reason}: {error}") from error
        except AnchorError as error:
            raise TrustError(TrustReason.INCONSISTENT, str(error)) from error
        return trust_list, canonical.encode(trust_list)

    def _read_confirmation(self, envelope: Envelope) -> TrustListConfirmation:
        try:
            return dsse.verify(envelope, TrustListConfirmation, self._anchor_keys)
        except EvidenceError as error:
            raise TrustError(TrustReason.UNVERIFIED, f"{error.reason}: {error}") from error

    def _take_confirmation(self, word: TrustListConfirmation) -> bool:
        """Note when the list was confirmed and until when it counts; False for a word that isn't later than the last.

        Unless that one is from tomorrow: a coordinator whose clock was wrong is believed again once it is right.
        """
        try:
            at, expires_at = instant(word.confirmed_at).timestamp(), instant(word.expires_at).timestamp()
        except AnchorError as error:
            raise TrustError(TrustReason.INCONSISTENT, str(error)) from error
        if at <= self.confirmed_at <= time.time() + CLOCK_SKEW_MAX_S:
            return False
        self.confirmed_at, self.expires_at, self._confirmed_monotonic = at, expires_at, time.monotonic()
        return True

    def _take_up_confirmation(self, path: Path) -> None:
        """Take the word that was kept beside a list; one that can't be read or is of another list confirms nothing."""
        try:
            word = self._read_confirmation(msgspec.json.decode(path.read_bytes(), type=Envelope))
            if word.sha256 == self._sha256:
                self._take_confirmation(word)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, TrustError):
            return

    def _adopt(self, trust_list: TrustList, payload: bytes) -> None:
        self._current, self._payload, self._sha256 = trust_list, payload, canonical.digest(payload)
        self._members = {member.bic: member for member in trust_list.members}
        self._token_keys = self._keys(self._members[self.anchor.bic], "token", ("active",))

    def _keys(self, member: Member, use: KeyUse, statuses: tuple[str, ...]) -> dict[str, VerifyingKey]:
        return {
            key.kid: VerifyingKey(key.x).within(self.scheme)
            for key in member.keys
            if key.use == use and key.status in statuses
        }

    def _keep(self, confirmation: Envelope | None = None) -> None:
        """Write the list, if it isn't yet, and beside it the coordinator's word. They count even where that fails.

        What a disk lost is asked for after the next start, before anybody is paid by an older list.
        """
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._unkept is not None:
                write_whole(self._path, msgspec.json.encode(self._unkept), durable=True)
                self._unkept = None
            if confirmation is not None:
                # Not worth waiting for the disk: a file that a crash leaves empty confirms nothing.
                write_whole(_beside(self._path), msgspec.json.encode(confirmation))
        except OSError as error:
            log.warning("trust list not kept on disk", error=str(error)[:200])


async def _confirmation(client: FederationClient) -> Envelope:
    """Return the coordinator's word which list is the newest."""
    try:
        return await client.get(f"{client.issuer}/trust-list/confirmation", Envelope, audience=None)
    except RemoteProblem as problem:
        if problem.status != HTTPStatus.NOT_FOUND:
            raise
        detail = "the coordinator confirms no trust list: it is of an earlier release, and is to be upgraded first"
        raise TrustError(TrustReason.UNCONFIRMED, detail) from problem


def _beside(path: Path) -> Path:
    return path.with_name(path.stem + ".confirmed.json")
