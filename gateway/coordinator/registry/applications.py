"""What an institution hands in about itself, read and verified: its application, and the change of a key. Pure."""

from __future__ import annotations

import msgspec

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.crypto.keys import VerifyingKey
from compliance.crypto.points import PointError
from gateway.coordinator.registry.lifecycle import RegistryReason
from gateway.federation.membership.documents import (
    APPLICATION_TYPE,
    KEY_CHANGE_TYPE,
    Application,
    KeyChange,
    OfferedKey,
)
from gateway.federation.problems import Refusal


def read_application(envelope: Envelope, scheme: str | None) -> Application:
    """Return an application to a scheme that its own sign key signed; raises Refusal."""
    try:
        offered = canonical.decode(envelope.payload_bytes(), Application)
        keys = {key.use: VerifyingKey(key.x) for key in offered.keys}
        _require_one_for_each_use(offered.keys)
        signer = keys["sign"].within(scheme)
        return dsse.verify_submitted(envelope, Application, {signer.kid: signer}, payload_type=APPLICATION_TYPE)
    except (EvidenceError, ValueError, msgspec.MsgspecError) as error:
        raise _refused(error) from error


def read_key_change(envelope: Envelope, *, member: str, active: dict[str, VerifyingKey]) -> KeyChange:
    """Return a key change that an active sign key of the member and the new key itself signed; raises Refusal."""
    try:
        dsse.require_nothing_free(envelope, signatures=2)
        change = dsse.verify(envelope, KeyChange, active, payload_type=KEY_CHANGE_TYPE)
        new = VerifyingKey(change.x)
        dsse.open_(envelope, {new.kid: new}, payload_type=KEY_CHANGE_TYPE)
    except (EvidenceError, ValueError) as error:
        raise _refused(error) from error
    if new.kid in active:
        raise Refusal(RegistryReason.KEY_KNOWN, "the new key is in force already", pointer="/x")
    if change.member != member:
        raise Refusal(RegistryReason.NOT_YOURS, f"the document is {change.member}'s", pointer="/member")
    return change


def read_key(x: str) -> VerifyingKey:
    """Return a public key; raises Refusal `key_refused`."""
    try:
        return VerifyingKey(x)
    except ValueError as error:
        raise Refusal(RegistryReason.KEY_REFUSED, str(error), pointer="/x") from error


def _require_one_for_each_use(offered: tuple[OfferedKey, ...]) -> None:
    uses = [key.use for key in offered]
    if len(set(uses)) != len(uses) or len({key.x for key in offered}) != len(uses) or not {"auth", "sign"} <= set(uses):
        detail = "an auth key and a sign key, and no key or use twice"
        raise Refusal(RegistryReason.KEYS_INCOMPLETE, detail, pointer="/keys")


def _refused(error: Exception) -> Refusal:
    if isinstance(error, PointError):
        return Refusal(RegistryReason.KEY_REFUSED, f"no public key of Ed25519: {error.reason}", pointer="/payload")
    reason = error.reason if isinstance(error, EvidenceError) else "schema_violation"
    return Refusal(RegistryReason.SIGNATURE_REFUSED, f"{reason}: {error}", pointer="/payload")
