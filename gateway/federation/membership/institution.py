"""What every institution does at its own desk: apply for membership, say who it is, and let its own people in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from compliance.crypto import dsse
from compliance.crypto.keys import Signer
from compliance.person import name_fault
from compliance.statements import KeyUse
from compliance.trust import Anchor
from gateway.federation.identity.tokens import (
    STAFF_ROLE,
    TOKEN_LIFETIME_MAX_S,
    issue_access_token,
    member_assertion,
)
from gateway.federation.membership.documents import APPLICATION_TYPE, Application, OfferedKey, SettlementAccount
from gateway.federation.settings import NodeSettings, SettingsError
from gateway.federation.signers.key_store import open_keys
from gateway.federation.signers.signing import signing

if TYPE_CHECKING:
    from gateway.federation.http.client import AccessToken, TokenSource


def application(
    settings: NodeSettings, name: str, settlement: SettlementAccount | None = None, *, invitation: str | None = None
) -> str:
    """Return the institution's signed application, as JSON text. Raises SettingsError where it has no keys."""
    from gateway.federation.http.client import MemberIdentity

    scheme = None if settings.anchor is None else Anchor.read(settings.anchor).scheme
    identity = MemberIdentity(settings.bic, settings.keys_dir, scheme)
    document = Application(
        bic=settings.bic,
        name=name,
        url=settings.url,
        keys=(offered("auth", identity.auth), offered("sign", identity.sign)),
        settlement=settlement,
        invitation=invitation,
    )
    envelope = dsse.sign(document, identity.sign, payload_type=APPLICATION_TYPE)
    return msgspec.json.format(msgspec.json.encode(envelope)).decode() + "\n"


def offered(use: KeyUse, signer: Signer) -> OfferedKey:
    """Return the public key of a signer, as it is offered to the coordinator."""
    return OfferedKey(use=use, x=signer.verifying_key.x)


def staff_tokens(key: Signer, *, issuer: str, subject: str, role: str = STAFF_ROLE) -> TokenSource:
    """Return what issues access tokens for one of an institution's own people, signed by its `token` key."""
    from gateway.federation.http.client import AccessToken

    async def issue(audience: str) -> AccessToken:
        token = await signing(lambda: _staff_token(key, issuer, subject, audience, role), key)
        return AccessToken(token, TOKEN_LIFETIME_MAX_S)

    return issue


def member_assertions(key: Signer, member: str) -> TokenSource:
    """Return what a member calls other members with: assertions of its own, signed by its `auth` key."""
    from gateway.federation.http.client import AccessToken

    async def issue(audience: str) -> AccessToken:
        token = await signing(lambda: member_assertion(key=key, member=member, audience=audience), key)
        return AccessToken(token, TOKEN_LIFETIME_MAX_S)

    return issue


def staff_token(settings: NodeSettings, subject: str, role: str = STAFF_ROLE, *, scope: str = "") -> str:
    """Return an access token for one of the institution's own people, for the institution itself.

    Raises SettingsError where there is no key, and for a subject that may
    be nobody's name, whose token no node takes.
    """
    if (fault := name_fault(subject)) is not None:
        raise SettingsError(f"subject: {subject!a} may be nobody's name: {fault}")
    # Read without a `MemberIdentity`: `concordat … token` is called in every script, and needs no HTTP client.
    key = open_keys(settings.keys_dir).signer("token")
    return _staff_token(key, settings.url, subject, settings.bic, role, scope)


def _staff_token(key: Signer, issuer: str, subject: str, audience: str, role: str, scope: str = "") -> str:
    return issue_access_token(
        key=key, issuer=issuer, subject=subject, audience=audience, client_id=subject, role=role, scope=scope
    )
