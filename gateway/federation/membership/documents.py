"""What an institution signs about itself: its application for membership, and the change of a key.

The coordinator keeps what it is told here in its registry; `compliance.statements.TrustList` is what it publishes.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from compliance.statements import Bic, Document, KeyId, KeyUse, whole

# An Ed25519 public key as in a JWK: 32 bytes, base64url without padding.
PublicKey = Annotated[str, Meta(pattern=whole(r"[A-Za-z0-9_-]{43}"))]
InstitutionName = Annotated[str, Meta(pattern=whole(r"[^\x00-\x1f\x7f]{1,140}"))]
_URL = r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?"
BaseUrl = Annotated[str, Meta(pattern=whole(_URL), max_length=200)]
AccountId = Annotated[str, Meta(pattern=whole(r"[A-Za-z0-9/?:().,'+ -]{1,34}"))]

APPLICATION_TYPE = "application/vnd.concordat.application.v1+json"
KEY_CHANGE_TYPE = "application/vnd.concordat.key-change.v1+json"


class OfferedKey(Document, frozen=True, kw_only=True):
    """A public key that an applicant offers."""

    use: KeyUse
    x: PublicKey


class SettlementAccount(Document, frozen=True, kw_only=True):
    """Where an institution settles: its account in the books of the settlement agent."""

    agent: Bic
    account: AccountId


class Application(Document, frozen=True, kw_only=True):
    """An institution asks to become a participant.

    Payload type `APPLICATION_TYPE`, signed by the offered `sign` key: whoever applies holds the key.
    """

    bic: Bic
    name: InstitutionName
    url: BaseUrl
    keys: Annotated[tuple[OfferedKey, ...], Meta(min_length=2, max_length=3)]
    settlement: SettlementAccount | None = None
    invitation: Annotated[str, Meta(max_length=100)] | None = None
    """The code that the clearing house gave out for this BIC."""


class KeyChange(Document, frozen=True, kw_only=True):
    """A member adds a key, or puts a new one in the place of an active one (`replaces`, a key id).

    Payload type `KEY_CHANGE_TYPE`, signed twice: by an active `sign` key of the member, and by the new key itself.
    """

    member: Bic
    use: KeyUse
    x: PublicKey
    replaces: KeyId | None = None
