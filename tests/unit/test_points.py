"""Which bytes are a public key: points of the curve in their one form, none of small order; how keys get into files."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from compliance.crypto.keys import SigningKey, VerifyingKey, b64url
from compliance.crypto.points import PointError, PointReason, require_point
from compliance.trust import Anchor, AnchorError, AnchorKey

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
SIGN = 1 << 255
Y8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
# Written by nobody who holds a key: R is the neutral element, S is 0.
FORGED = (1).to_bytes(32, "little") + bytes(32)


def encoded(y: int) -> bytes:
    return y.to_bytes(32, "little")


REFUSED = {
    "the neutral element": (encoded(1), PointReason.SMALL_ORDER),
    "order 2": (encoded(P - 1), PointReason.SMALL_ORDER),
    "order 4": (encoded(0), PointReason.SMALL_ORDER),
    "order 4, the other x": (encoded(SIGN), PointReason.SMALL_ORDER),
    "order 8": (encoded(Y8), PointReason.SMALL_ORDER),
    "order 8, the other x": (encoded(Y8 | SIGN), PointReason.SMALL_ORDER),
    "order 8, the other y": (encoded(P - Y8), PointReason.SMALL_ORDER),
    "order 8, both other": (encoded(P - Y8 | SIGN), PointReason.SMALL_ORDER),
    "the neutral element with a sign": (encoded(1 | SIGN), PointReason.SMALL_ORDER),
    "the neutral element, not reduced": (encoded(P + 1), PointReason.NOT_CANONICAL),
    "zero, not reduced": (encoded(P), PointReason.NOT_CANONICAL),
    "the largest there is": (b"\xff" * 32, PointReason.NOT_CANONICAL),
    "no point": (encoded(2), PointReason.OFF_CURVE),
    "no point, with a sign": (encoded(2 | SIGN), PointReason.OFF_CURVE),
    "too short": (bytes(31), PointReason.WRONG_LENGTH),
    "too long": (bytes(33), PointReason.WRONG_LENGTH),
}


@pytest.mark.parametrize(("raw", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_public_key(raw: bytes, reason: PointReason) -> None:
    with pytest.raises(PointError) as refused:
        VerifyingKey(b64url(raw))
    assert refused.value.reason is reason
    with pytest.raises(AnchorError, match=reason):
        Anchor(bic="CNCDXXC0", keys=(AnchorKey(kid="k", x=b64url(raw)),)).verifying_keys()


def test_openssl_alone_would_verify_what_nobody_signed() -> None:
    """Why keys are looked at before they are believed."""
    Ed25519PublicKey.from_public_bytes(encoded(1)).verify(FORGED, b"whatever")


def test_every_key_that_is_made_is_a_public_key() -> None:
    for _ in range(200):
        key = SigningKey.generate()
        require_point(key.private.public_key().public_bytes_raw())


def test_a_signature_has_one_form() -> None:
    """S beyond the order of the group would be a second signature of the same message (RFC 8032, section 5.1.7)."""
    key = SigningKey.generate()
    signature = key.sign(b"message")
    assert key.verifying_key.verifies(signature, b"message")
    s = int.from_bytes(signature[32:], "little")
    for other in (s + ORDER, s + 2 * ORDER, s | 1 << 253, s | 1 << 255):
        assert not key.verifying_key.verifies(signature[:32] + other.to_bytes(32, "little"), b"message")


# --- files ------------------------------------------------------------------------------------------------


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "sign.pem"
    key = SigningKey.load_or_create(path)
    with pytest.raises(FileExistsError):
        SigningKey.generate().save(path)
    assert SigningKey.load(path).kid == key.kid
    assert [entry.name for entry in path.parent.iterdir()] == ["sign.pem"]


def test_a_key_and_its_directory_are_their_owners_only(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        SigningKey.load_or_create(tmp_path / "keys" / "sign.pem")
    finally:
        os.umask(mask)
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "keys" / "sign.pem").stat().st_mode & 0o777 == 0o600


def test_two_who_make_a_key_at_once_have_the_same(tmp_path: Path) -> None:
    for number in range(20):
        path = tmp_path / str(number) / "sign.pem"
        with ThreadPoolExecutor(8) as pool:
            kids = set(pool.map(lambda path: SigningKey.load_or_create(path).kid, [path] * 8))
        assert len(kids) == 1


def test_a_link_in_the_place_of_a_key_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "sign.pem").symlink_to(elsewhere)
    with pytest.raises(FileExistsError):
        SigningKey.generate().save(tmp_path / "sign.pem")
    assert not elsewhere.exists()
    assert not [entry for entry in tmp_path.iterdir() if entry.name != "sign.pem"]


def test_a_crash_while_a_key_is_written_leaves_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sign.pem"

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            SigningKey.load_or_create(path)
    assert list(tmp_path.iterdir()) == []
    assert SigningKey.load_or_create(path).kid == SigningKey.load(path).kid
