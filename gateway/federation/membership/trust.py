"""Who belongs to the scheme, and by which keys: the trust list as a node knows it.

The one thing that a node believes without proof is its trust anchor, a file with the coordinator's `sign` key that
came by another way. Everything else it learns from trust lists signed by that key, whose version only grows.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.crypto.keys import VerifyingKey
from compliance.statements import KeyUse, Member, TrustList
from compliance.trust import Anchor, AnchorError, check_trust_list
from gateway.federation.settings import ConfigurationError

if TYPE_CHECKING:
    from gateway.federation.http.client import FederationClient


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


class TrustStore:
    """The newest trust list that verified. With a `path` it outlives the process."""

    def __init__(self, anchor: Anchor, *, path: Path | None = None) -> None:
        self.anchor = anchor
        self._path = path
        try:
            self._anchor_keys = anchor.verifying_keys()
        except AnchorError as error:
            raise TrustError(TrustReason.ANCHOR_MALFORMED, str(error)) from error
        self._current: TrustList | None = None
        self._payload = b""
        self._members: dict[str, Member] = {}
        self._token_keys: dict[str, VerifyingKey] = {}

    @classmethod
    def open(cls, anchor: Path | Anchor, *, path: Path | None = None) -> TrustStore:
        """Open a store; take up the trust list kept at `path`, if there is one. Raises OSError, TrustError."""
        try:
            pinned = Anchor.read(anchor) if isinstance(anchor, Path) else anchor
        except AnchorError as error:
            raise TrustError(TrustReason.ANCHOR_MALFORMED, str(error)) from error
        store = cls(pinned, path=path)
        if path is not None and path.exists():
            try:
                envelope = msgspec.json.decode(path.read_bytes(), type=Envelope)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise TrustError(TrustReason.UNVERIFIED, f"{path}: {error}") from error
            store._adopt(*store._verify(envelope))
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

    def update(self, envelope: Envelope) -> bool:
        """Take a trust list; tell whether it is newer. Raises TrustError for one that must not be believed.

        A version never goes back, and one version has one content.
        """
        trust_list, payload = self._verify(envelope)
        if self._current is not None:
            if trust_list.version < self._current.version:
                raise TrustError(TrustReason.ROLLED_BACK, f"version {trust_list.version} after {self._current.version}")
            if trust_list.version == self._current.version:
                if payload != self._payload:
                    raise TrustError(TrustReason.FORKED, f"a second version {trust_list.version}")
                return False
        if self._path is not None:
            _write_atomically(self._path, msgspec.json.encode(envelope))
        self._adopt(trust_list, payload)
        return True

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
        return {} if member is None else _keys(member, "sign", statuses)

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
        self._token_keys = _keys(self._members[self.anchor.bic], "token", ("active",))


def _keys(member: Member, use: KeyUse, statuses: tuple[str, ...]) -> dict[str, VerifyingKey]:
    return {key.kid: VerifyingKey(key.x) for key in member.keys if key.use == use and key.status in statuses}


def _write_atomically(path: Path, data: bytes) -> None:
    """Replace a file so that a crash leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
