"""One way to sign documents and tokens, whatever the algorithm, and however long a signature takes."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey

from compliance.crypto import dsse, keys
from compliance.crypto.dsse import EvidenceError
from compliance.crypto.keys import ED25519, Algorithm, Signer, SigningKey, VerifyingKey, b64url, unb64url
from compliance.statements import Receipt
from gateway.federation.identity.tokens import (
    ASSERTION_TYPE,
    TokenReason,
    TokenRefused,
    TokenVerifier,
    claimed_issuer,
    client_assertion,
    issue_access_token,
)
from gateway.federation.settings import SettingsError
from gateway.federation.signers.key_store import open_keys
from gateway.federation.signers.signing import sign_document, signing

NOW = 1_800_000_000.0
ISSUER, BANK = "https://coordinator.example", "BANKDEFF"
RECEIPT = Receipt(instruction="i", participant=BANK, sha256="0" * 64)
# Not in use: the one thing that another algorithm takes is such an entry.
ML_DSA_65 = Algorithm(
    name="ML-DSA-65",
    jws="ML-DSA-65",
    jwk={"alg": "ML-DSA-65", "kty": "AKP"},
    jwk_key="pub",
    private_type=MLDSA65PrivateKey,
    generate=MLDSA65PrivateKey.generate,
    public=MLDSA65PublicKey.from_public_bytes,
)


@pytest.fixture
def two_algorithms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "ALGORITHMS", (ED25519, ML_DSA_65))


def token_of(key: SigningKey) -> str:
    return issue_access_token(
        key=key, issuer=ISSUER, subject="alice", audience=BANK, client_id="alice", role="operator", now=NOW
    )


def verifier(key: SigningKey) -> TokenVerifier:
    return TokenVerifier(BANK, lambda issuer, kid: key.verifying_key if (issuer, kid) == (ISSUER, key.kid) else None)


def test_a_thumbprint_is_that_of_rfc_8037() -> None:
    key = VerifyingKey("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    assert key.kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert key.jwk == {"crv": "Ed25519", "kty": "OKP", "x": key.x}


def test_another_library_verifies_what_we_sign() -> None:
    key = SigningKey.generate()
    public = Ed25519PublicKey.from_public_bytes(unb64url(key.x))
    options = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(token_of(key), public, algorithms=["EdDSA"], audience=BANK, options=options)
    assert (claims["iss"], claims["sub"]) == (ISSUER, "alice")
    assertion = client_assertion(key=key, client_id=BANK, audience=ISSUER)
    assert jwt.get_unverified_header(assertion) == {"alg": "EdDSA", "kid": key.kid, "typ": ASSERTION_TYPE}
    assert jwt.decode(assertion, public, algorithms=["EdDSA"], audience=ISSUER)["sub"] == BANK


@pytest.mark.usefixtures("two_algorithms")
def test_another_algorithm_signs_documents_and_tokens(tmp_path: Path) -> None:
    path = tmp_path / "sign.pem"
    SigningKey.generate(ML_DSA_65).save(path)
    key = SigningKey.load(path)
    assert key.algorithm is ML_DSA_65
    assert set(key.verifying_key.jwk) == {"alg", "kty", "pub"}
    envelope = dsse.sign(RECEIPT, key)
    assert dsse.verify(envelope, Receipt, {key.kid: key.verifying_key}) == RECEIPT
    token = token_of(key)
    assert json.loads(unb64url(token.split(".")[0]))["alg"] == "ML-DSA-65"
    assert verifier(key).verify(token, now=NOW).sub == "alice"


@pytest.mark.usefixtures("two_algorithms")
def test_a_key_is_good_for_its_own_algorithm_only() -> None:
    key, other = SigningKey.generate(ML_DSA_65), SigningKey.generate()
    header, payload, _ = token_of(key).split(".")
    lying = b64url(json.dumps({**json.loads(unb64url(header)), "alg": "EdDSA"}).encode())
    signed = f"{lying}.{payload}"
    with pytest.raises(TokenRefused) as refused:
        verifier(key).verify(f"{signed}.{b64url(key.sign(signed.encode()))}", now=NOW)
    assert refused.value.reason == TokenReason.ALGORITHM_REFUSED
    forged = dsse.seal(b"{}", "t", other)
    with pytest.raises(EvidenceError, match="no signature by a known key"):
        dsse.open_(forged, {key.kid: key.verifying_key}, payload_type="t")


def test_a_key_of_an_algorithm_not_in_use_is_refused(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(keys, "ALGORITHMS", (ML_DSA_65,))
        SigningKey.generate(ML_DSA_65).save(tmp_path / "sign.pem")
    with pytest.raises(SettingsError, match="not an Ed25519 private key"):
        open_keys(tmp_path).signer("sign")


def test_keys_are_made_once_for_each_use(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no token key in"):
        open_keys(tmp_path).signer("token")
    kids = [open_keys(tmp_path).make(use).kid for use in ("auth", "sign", "token")]
    assert len(set(kids)) == 3
    assert kids == [open_keys(tmp_path).make(use).kid for use in ("auth", "sign", "token")]
    assert kids == [open_keys(tmp_path).signer(use).kid for use in ("auth", "sign", "token")]
    assert {path.name for path in tmp_path.iterdir()} == {"auth.pem", "sign.pem", "token.pem"}


UNSAID = {
    "nothing": "",
    "two parts": "a.b",
    "no parts, and long": "x" * 9_000,
    "a payload that is no object": f"{b64url(b'{}')}.{b64url(b'[]')}.",
    "no issuer": f"{b64url(b'{}')}.{b64url(b'{}')}.",
    "an issuer that is no text": f"{b64url(b'{}')}.{b64url(json.dumps({'iss': 7}).encode())}.",
}


@pytest.mark.parametrize("token", UNSAID.values(), ids=UNSAID)
def test_a_token_that_doesn_t_say_who_it_is_of(token: str) -> None:
    assert claimed_issuer(token) == ""


def test_who_a_token_says_it_is_of() -> None:
    assert claimed_issuer(client_assertion(key=SigningKey.generate(), client_id=BANK, audience=ISSUER)) == BANK


class HardwareKey:
    """A signer that takes its time: until it is let go on."""

    slow = True
    scheme = None

    def __init__(self) -> None:
        self._key = SigningKey.generate()
        self.kid, self.algorithm, self.verifying_key = self._key.kid, self._key.algorithm, self._key.verifying_key
        self.asked, self.go_on = threading.Event(), threading.Event()

    def within(self, scheme: str) -> Signer:
        raise AssertionError("nobody asks it for documents of a scheme")

    def sign(self, message: bytes) -> bytes:
        self.asked.set()
        assert self.go_on.wait(10)
        return self._key.sign(message)


async def test_a_slow_signer_holds_up_nobody() -> None:
    key, quick = HardwareKey(), SigningKey.generate()
    waiting = asyncio.create_task(sign_document(RECEIPT, key))
    assert await asyncio.to_thread(key.asked.wait, 10)
    # The loop goes on, and others sign meanwhile.
    assert dsse.verify(await sign_document(RECEIPT, quick), Receipt, {quick.kid: quick.verifying_key}) == RECEIPT
    assert not waiting.done()
    key.go_on.set()
    assert dsse.verify(await waiting, Receipt, {key.kid: key.verifying_key}) == RECEIPT


async def test_a_quick_signer_answers_at_once() -> None:
    here = threading.get_ident()
    assert await signing(threading.get_ident, SigningKey.generate()) == here
    slow = HardwareKey()
    assert await signing(threading.get_ident, SigningKey.generate(), slow) != here
