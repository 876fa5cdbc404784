"""The trust anchor, and what a trust list must be for anybody to rely on it. Pure.

The one thing believed without proof is the anchor: the coordinator's `sign` keys, handed over by another way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import msgspec
from msgspec import Struct

from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import VerifyingKey, scheme_name
from compliance.statements import DATED_TRUST_LIST_TYPE, Bic, Member, TrustKey, TrustList


class AnchorError(Exception):
    """A trust anchor that can't be used, or a trust list that contradicts itself."""


class AnchorKey(Struct, frozen=True, forbid_unknown_fields=True):
    kid: str
    x: str


class Anchor(Struct, frozen=True, forbid_unknown_fields=True):
    """The coordinator's `sign` keys, pinned. `bic` names the coordinator."""

    bic: Bic
    keys: tuple[AnchorKey, ...]

    @classmethod
    def read(cls, path: Path) -> Anchor:
        """Read an anchor file (JSON). Raises OSError, AnchorError."""
        try:
            anchor = msgspec.json.decode(path.read_bytes(), type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise AnchorError(f"{path} isn't a trust anchor: {error}") from error
        anchor.verifying_keys()
        return anchor

    @classmethod
    def of(cls, bic: str, *keys: VerifyingKey) -> Anchor:
        return cls(bic=bic, keys=tuple(AnchorKey(kid=key.kid, x=key.x) for key in keys))

    def write(self, path: Path) -> None:
        """Write an anchor file, to be handed to members by a way they trust."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")

    @property
    def scheme(self) -> str:
        """The scheme's name. Raises AnchorError."""
        if not self.keys:
            raise AnchorError("an anchor holds at least one key")
        return scheme_name(self.bic, _key(self.keys[0].kid, self.keys[0].x))

    def verifying_keys(self) -> dict[str, VerifyingKey]:
        """Return the keys by key id, as they are known in the scheme. Raises AnchorError."""
        scheme = self.scheme
        return {entry.kid: _key(entry.kid, entry.x).within(scheme) for entry in self.keys}


class Signers:
    """Who may sign a document: the `sign` keys of members over the trust lists in force when it was taken in.

    A key counts that one of the lists calls active, unless its times, where they are told, are all before `since` or
    after `until`. With `former` each key counts that did at any time until then, for documents of long ago: a retired
    one, and a revoked one of which the list says since when.
    """

    def __init__(
        self,
        trust_lists: Iterable[TrustList],
        *,
        scheme: str,
        since: datetime | None = None,
        until: datetime | None = None,
        former: bool = False,
    ) -> None:
        self._scheme = scheme
        self._since = since
        self._until = until
        self._former = former
        self._owners: dict[str, str] = {}
        self._keys: dict[str, dict[str, VerifyingKey]] = {}
        self._kinds: dict[str, str] = {}
        self._inactive: set[str] = set()
        for trust_list in trust_lists:
            for member in trust_list.members:
                self._add(member)

    def _add(self, member: Member) -> None:
        if self._kinds.setdefault(member.bic, member.kind) != member.kind:
            raise AnchorError(f"{member.bic} is a {self._kinds[member.bic]} first and a {member.kind} later")
        if member.status != "active":
            self._inactive.add(member.bic)
        for entry in member.keys:
            if self._owners.setdefault(entry.kid, member.bic) != member.bic:
                raise AnchorError(f"key {entry.kid} is of {self._owners[entry.kid]} and of {member.bic}")
            if entry.use == "sign" and self._counts(entry) and entry.kid not in self._keys.get(member.bic, {}):
                self._keys.setdefault(member.bic, {})[entry.kid] = _key_within(self._scheme, entry.kid, entry.x)

    def _counts(self, key: TrustKey) -> bool:
        if self._until is not None and key.not_before is not None and instant(key.not_before) > self._until:
            return False
        if self._former:
            return key.status != "revoked" or key.revoked_at is not None
        ends = [instant(end) for end in (key.not_after, key.revoked_at) if end is not None]
        return key.status == "active" and (self._since is None or all(end >= self._since for end in ends))

    def of(self, bic: str) -> Mapping[str, VerifyingKey]:
        """Return a member's keys by key id; none if there is no such member."""
        return self._keys.get(bic, {})

    def owner(self, kid: str) -> str | None:
        """Return whose key it is."""
        return self._owners.get(kid)

    def kind(self, bic: str) -> str | None:
        """Return what a member is: coordinator, participant or agent."""
        return self._kinds.get(bic)

    def was_inactive(self, bic: str) -> bool:
        """Tell whether a trust list names a member as anything but active, as while it is suspended."""
        return bic in self._inactive


def read_trust_list(envelope: Envelope, anchor: Anchor, keys: Mapping[str, VerifyingKey]) -> TrustList:
    """Return a trust list of either form, signed by one of the anchor's keys. Raises EvidenceError, AnchorError."""
    if envelope.document_type == DATED_TRUST_LIST_TYPE:
        trust_list = dsse.verify(envelope, TrustList, keys, payload_type=DATED_TRUST_LIST_TYPE)
    else:
        trust_list = dsse.verify(envelope, TrustList, keys)
        if any(_dated(key) for member in trust_list.members for key in member.keys):
            raise AnchorError("a list of the first form tells the times of keys")
    check_trust_list(trust_list, anchor)
    return trust_list


def undated(trust_list: TrustList) -> TrustList:
    """Return a list without the times of keys: the form of 0.1, under the same version."""
    return msgspec.structs.replace(
        trust_list,
        members=tuple(
            msgspec.structs.replace(
                member,
                keys=tuple(
                    msgspec.structs.replace(key, not_before=None, not_after=None, revoked_at=None)
                    for key in member.keys
                ),
            )
            for member in trust_list.members
        ),
    )


def instant(timestamp: str) -> datetime:
    """Return a timestamp to compare others with: with and without a fraction, texts don't sort. Raises AnchorError."""
    try:
        return datetime.fromisoformat(timestamp)
    except ValueError as error:
        raise AnchorError(f"{timestamp} is no instant") from error


def _dated(key: TrustKey) -> bool:
    return (key.not_before, key.not_after, key.revoked_at) != (None, None, None)


def check_trust_list(trust_list: TrustList, anchor: Anchor) -> None:
    """Check that members and keys are each named once, keys by their thumbprint, and that the coordinator is the
    anchor's. Raises AnchorError.
    """
    bics = [member.bic for member in trust_list.members]
    if len(set(bics)) != len(bics):
        raise AnchorError("a member is listed twice")
    if [member.bic for member in trust_list.members if member.kind == "coordinator"] != [anchor.bic]:
        raise AnchorError(f"the coordinator isn't {anchor.bic}")
    kids = [_key(key.kid, key.x).kid for member in trust_list.members for key in member.keys]
    if len(set(kids)) != len(kids):
        raise AnchorError("a key is listed twice")


def _key(kid: str, x: str) -> VerifyingKey:
    try:
        key = VerifyingKey(x)
    except ValueError as error:
        raise AnchorError(f"key {kid}: {error}") from error
    if key.kid != kid:
        raise AnchorError(f"key {kid} has the thumbprint {key.kid}")
    return key


@lru_cache(maxsize=4096)
def _key_within(scheme: str, kid: str, x: str) -> VerifyingKey:
    # One list is in force in several stretches of a log; its keys are read once.
    return _key(kid, x).within(scheme)
