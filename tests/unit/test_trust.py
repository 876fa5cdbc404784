"""The trust list: believed by the anchor only, and only forwards."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.statements import DATED_TRUST_LIST_TYPE, Member, TrustKey, TrustList
from compliance.trust import Anchor, AnchorKey
from gateway.federation.membership.trust import TrustError, TrustReason, TrustStore
from gateway.federation.problems import Refusal
from tests.support import confirmation

COORDINATOR = "CNCDXXC0"
BANK = "BANKDEFF"
ISSUER = "https://coordinator.example"
ANCHOR_KEY, TOKEN_KEY, BANK_SIGN, BANK_OLD, BANK_LOST, BANK_AUTH, BANK_TOKEN = (SigningKey.generate() for _ in range(7))


def key(
    signing: SigningKey,
    use: Literal["auth", "sign", "token"],
    status: Literal["active", "retired", "revoked"] = "active",
    kid: str | None = None,
) -> TrustKey:
    return TrustKey(kid=kid or signing.kid, alg="Ed25519", x=signing.x, use=use, status=status)


def coordinator(*keys: TrustKey, bic: str = COORDINATOR) -> Member:
    return Member(bic=bic, name="Clearing house", kind="coordinator", status="active", url=ISSUER, keys=keys)


def bank(*keys: TrustKey) -> Member:
    return Member(bic=BANK, name="Bank", kind="participant", status="active", url="https://bank.example", keys=keys)


HOUSE = coordinator(key(ANCHOR_KEY, "sign"), key(TOKEN_KEY, "token"))
MEMBERS = (
    HOUSE,
    bank(
        key(BANK_SIGN, "sign"),
        key(BANK_OLD, "sign", "retired"),
        key(BANK_LOST, "sign", "revoked"),
        key(BANK_AUTH, "auth"),
        key(BANK_TOKEN, "token"),
    ),
)


def signed(version: int, *members: Member, by: SigningKey = ANCHOR_KEY) -> Envelope:
    return dsse.sign(TrustList(version=version, issuer=ISSUER, members=members or MEMBERS), by)


def dated_list(version: int, *members: Member) -> TrustList:
    since = "2026-01-02T03:04:05Z"
    return TrustList(
        version=version,
        issuer=ISSUER,
        members=tuple(
            msgspec.structs.replace(
                member, keys=tuple(msgspec.structs.replace(key, not_before=since) for key in member.keys)
            )
            for member in members or MEMBERS
        ),
    )


def dated(version: int, *members: Member) -> Envelope:
    return dsse.sign(dated_list(version, *members), ANCHOR_KEY, payload_type=DATED_TRUST_LIST_TYPE)


def open_store(path: Path | None = None) -> TrustStore:
    return TrustStore.open(Anchor.of(COORDINATOR, ANCHOR_KEY.verifying_key), path=path)


def refusal(store: TrustStore, envelope: Envelope) -> TrustReason:
    with pytest.raises(TrustError) as refused:
        store.update(envelope)
    return refused.value.reason


def test_before_the_first_list_nobody_is_trusted() -> None:
    store = open_store()
    assert not store.loaded
    assert store.member(BANK) is None
    assert store.signing_keys(BANK) == {}
    assert store.token_key(ISSUER, TOKEN_KEY.kid) is None
    with pytest.raises(TrustError) as refused:
        _ = store.current
    assert refused.value.reason == TrustReason.MISSING


def test_keys_are_found_by_member_use_and_status() -> None:
    store = open_store()
    assert store.update(signed(1))
    assert store.current.version == 1
    assert set(store.signing_keys(BANK)) == {BANK_SIGN.kid}
    assert set(store.signing_keys(BANK, retired=True)) == {BANK_SIGN.kid, BANK_OLD.kid}
    assert store.signing_keys("NOBODYXX") == {}
    member = store.member(BANK)
    assert member is not None
    assert member.url == "https://bank.example"


def test_access_tokens_are_the_coordinator_s_only() -> None:
    store = open_store()
    store.update(signed(1))
    found = store.token_key(ISSUER, TOKEN_KEY.kid)
    assert found is not None
    assert found.kid == TOKEN_KEY.kid
    assert store.token_key(ISSUER, ANCHOR_KEY.kid) is None
    assert store.token_key(ISSUER, BANK_TOKEN.kid) is None
    assert store.token_key("https://bank.example", BANK_TOKEN.kid) is None
    assert store.token_key("https://evil.example", TOKEN_KEY.kid) is None


def test_versions_only_grow() -> None:
    store = open_store()
    assert store.update(signed(5))
    assert not store.update(signed(5))
    assert refusal(store, signed(4)) == TrustReason.ROLLED_BACK
    assert store.update(signed(7))
    assert store.current.version == 7


def test_one_version_has_one_content() -> None:
    store = open_store()
    store.update(signed(5))
    assert refusal(store, signed(5, HOUSE)) == TrustReason.FORKED
    assert store.member(BANK) is not None


def test_only_the_anchor_s_key_signs() -> None:
    store = open_store()
    assert refusal(store, signed(1, by=BANK_SIGN)) == TrustReason.UNVERIFIED
    # A key that the list itself names is no reason to believe the list.
    usurper = coordinator(key(BANK_SIGN, "sign"))
    assert refusal(store, signed(1, usurper, by=BANK_SIGN)) == TrustReason.UNVERIFIED
    good = signed(1)
    assert refusal(store, msgspec.structs.replace(good, signatures=())) == TrustReason.UNVERIFIED
    assert refusal(store, msgspec.structs.replace(good, payload=signed(2).payload)) == TrustReason.UNVERIFIED
    assert not store.loaded


@pytest.mark.parametrize(
    "members",
    [
        pytest.param((HOUSE, bank(), bank()), id="member twice"),
        pytest.param((bank(),), id="no coordinator"),
        pytest.param((coordinator(bic="OTHERXX0"),), id="another coordinator"),
        pytest.param((HOUSE, bank(key(BANK_SIGN, "sign", kid=BANK_OLD.kid))), id="misnamed key"),
        pytest.param((HOUSE, bank(key(TOKEN_KEY, "sign"))), id="one key, two members"),
        pytest.param(
            (HOUSE, bank(TrustKey(kid="x", alg="Ed25519", x="AAAA", use="sign", status="active"))), id="no key at all"
        ),
    ],
)
def test_a_list_that_contradicts_itself_is_refused(members: tuple[Member, ...]) -> None:
    assert refusal(open_store(), signed(1, *members)) == TrustReason.INCONSISTENT


def test_the_list_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "trust-list.json"
    open_store(path).update(signed(3))
    again = open_store(path)
    assert again.current.version == 3
    assert refusal(again, signed(2)) == TrustReason.ROLLED_BACK
    again.update(signed(4))
    assert open_store(path).current.version == 4


def test_a_kept_list_is_verified_again(tmp_path: Path) -> None:
    path = tmp_path / "trust-list.json"
    for content in (msgspec.json.encode(signed(9, by=BANK_SIGN)), b"{", b""):
        path.write_bytes(content)
        with pytest.raises(TrustError) as refused:
            open_store(path)
        assert refused.value.reason == TrustReason.UNVERIFIED


def test_a_refused_list_isn_t_kept(tmp_path: Path) -> None:
    path = tmp_path / "trust-list.json"
    store = open_store(path)
    store.update(signed(2))
    before = path.read_bytes()
    refusal(store, signed(1))
    assert path.read_bytes() == before


DAY = 86_400


@pytest.mark.parametrize(
    ("seconds_ago", "fresh"),
    [(0, True), (DAY - 60, True), (DAY + 1, False), (60 - DAY, True), (-DAY - 60, False)],
    ids=["now", "nearly a day", "more than a day", "the clock was set back", "the clock was set back by more"],
)
def test_a_list_is_good_for_as_long_as_it_is_confirmed(seconds_ago: float, fresh: bool) -> None:
    store = TrustStore.open(Anchor.of(COORDINATOR, ANCHOR_KEY.verifying_key), age_seconds_max=DAY)
    assert not store.fresh
    store.update(signed(1))
    assert not store.fresh
    assert store.confirm(confirmation(signed(1), ANCHOR_KEY, valid_s=3 * DAY))
    store.require_fresh()
    store.confirmed_at -= seconds_ago
    assert store.fresh is fresh
    if not fresh:
        with pytest.raises(Refusal) as refused:
            store.require_fresh()
        assert (refused.value.reason, refused.value.status) == ("trust_list_too_old", 503)
        assert refused.value.retry_after_s
    assert not store.update(signed(1))
    assert store.fresh is fresh
    assert store.confirm(confirmation(signed(1), ANCHOR_KEY, at=time.time() + 1))
    store.require_fresh()


def test_a_list_expires_where_nobody_says_that_it_is_the_newest() -> None:
    """A word said again, however often, keeps no list alive; only the coordinator's key makes a later one."""
    store = open_store()
    store.update(signed(1))
    past = confirmation(signed(1), ANCHOR_KEY, at=time.time() - DAY - 1)
    store.confirm(past)
    assert (store.fresh, store.expires_at < time.time()) == (False, True)
    now = confirmation(signed(1), ANCHOR_KEY)
    store.confirm(now)
    assert store.fresh
    at = store.confirmed_at
    for _ in range(3):
        assert store.confirm(now)
        assert store.confirm(past)
    assert (store.confirmed_at, store.fresh) == (at, True)
    store.expires_at = time.time()
    assert store.confirm(now)
    assert not store.fresh


def test_a_coordinator_whose_clock_was_wrong_is_believed_again() -> None:
    store = TrustStore.open(Anchor.of(COORDINATOR, ANCHOR_KEY.verifying_key), age_seconds_max=DAY)
    store.update(signed(1))
    store.confirm(confirmation(signed(1), ANCHOR_KEY, at=time.time() + 2 * DAY))
    assert not store.fresh
    store.confirm(confirmation(signed(1), ANCHOR_KEY))
    assert store.fresh


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        (confirmation(signed(4), ANCHOR_KEY), TrustReason.ROLLED_BACK),
        (confirmation(signed(5), BANK_SIGN), TrustReason.UNVERIFIED),
        (confirmation(dated(5, HOUSE), ANCHOR_KEY), TrustReason.FORKED),
        (dated(5), TrustReason.UNVERIFIED),
    ],
    ids=["of an older list", "by a bank", "of another list", "a list"],
)
def test_a_word_that_is_not_believed_confirms_nothing(word: Envelope, reason: TrustReason) -> None:
    store = open_store()
    store.update(dated(5))
    with pytest.raises(TrustError) as refused:
        store.confirm(word)
    assert (refused.value.reason, store.confirmed_at) == (reason, 0.0)
    assert not store.confirm(confirmation(dated(6), ANCHOR_KEY))


def test_a_list_kept_by_an_earlier_release_gets_its_times() -> None:
    store = open_store()
    store.update(signed(5))
    assert not store.confirm(confirmation(dated(5), ANCHOR_KEY))
    assert store.update(dated(5))
    assert store.confirm(confirmation(dated(5), ANCHOR_KEY))
    assert refusal(store, signed(5)) is TrustReason.FORKED


def test_times_of_keys_are_of_the_second_form() -> None:
    assert refusal(open_store(), dsse.sign(dated_list(1), ANCHOR_KEY)) is TrustReason.INCONSISTENT


@pytest.mark.parametrize("envelope", [signed(4), signed(5, HOUSE), signed(6, by=BANK_SIGN)])
def test_a_list_that_is_not_believed_confirms_nothing(envelope: Envelope) -> None:
    store = open_store()
    store.update(signed(5))
    store.confirmed_at = 1_000.0
    refusal(store, envelope)
    assert store.confirmed_at == 1_000.0


def test_when_it_was_confirmed_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "trust-list.json"
    beside = tmp_path / "trust-list.confirmed.json"
    store = open_store(path)
    store.update(signed(5))
    store.confirm(confirmation(signed(5), ANCHOR_KEY))
    assert open_store(path).confirmed_at == store.confirmed_at > 0
    assert open_store(path).expires_at == store.expires_at > time.time()
    first = beside.read_bytes()
    store.confirm(confirmation(signed(5), ANCHOR_KEY, at=time.time() + 1))
    assert open_store(path).confirmed_at == store.confirmed_at
    store.update(signed(6))
    store.confirm(confirmation(signed(6), ANCHOR_KEY, at=time.time() + 2))
    assert open_store(path).confirmed_at == store.confirmed_at
    # Of another list, unsigned as the release before kept it, of no form, missing: then nobody knows.
    unsigned = {"sha256": canonical.digest(signed(6).payload_bytes()), "at": time.time()}
    forged = msgspec.json.encode(confirmation(signed(6), BANK_SIGN))
    for content in (first, forged, b"", b"{", msgspec.json.encode(unsigned), None):
        beside.unlink()
        if content is not None:
            beside.write_bytes(content)
        again = open_store(path)
        assert (again.current.version, again.confirmed_at) == (6, 0.0)
        again.confirm(confirmation(signed(6), ANCHOR_KEY))
        assert open_store(path).confirmed_at > 0


def test_a_list_counts_also_where_it_cannot_be_kept(tmp_path: Path) -> None:
    """What a full disk keeps from being written is written once there is room, and until then isn't believed fresh."""
    path = tmp_path / "data" / "trust-list.json"
    store = open_store(path)
    store.update(signed(1))
    path.parent.rename(tmp_path / "away")
    path.parent.write_bytes(b"")
    assert store.update(signed(2))
    assert store.current.version == 2
    path.parent.unlink()
    (tmp_path / "away").rename(path.parent)
    assert open_store(path).current.version == 1
    assert store.confirm(confirmation(signed(2), ANCHOR_KEY))
    again = open_store(path)
    assert (again.current.version, again.confirmed_at) == (2, store.confirmed_at)


def test_a_member_says_who_it_is_with_an_active_auth_key() -> None:
    store = open_store()
    assert store.auth_key(BANK, BANK_AUTH.kid) is None
    store.update(signed(1))
    known = store.auth_key(BANK, BANK_AUTH.kid)
    assert known is not None
    assert known.kid == BANK_AUTH.kid
    for bic, other in ((BANK, BANK_SIGN), (BANK, BANK_TOKEN), (COORDINATOR, BANK_AUTH), ("NOBODYXX", BANK_AUTH)):
        assert store.auth_key(bic, other.kid) is None


def test_an_anchor_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "anchor.json"
    anchor = Anchor.of(COORDINATOR, ANCHOR_KEY.verifying_key)
    anchor.write(path)
    assert TrustStore.open(path).anchor == anchor


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"bic":"CNCDXXC0","keys":[]}',
        b'{"bic":"nobody","keys":[]}',
        b'{"bic":"CNCDXXC0","keys":[{"kid":"a","x":"!!"}]}',
        msgspec.json.encode(Anchor(bic=COORDINATOR, keys=(AnchorKey(kid=TOKEN_KEY.kid, x=ANCHOR_KEY.x),))),
    ],
    ids=["empty", "no object", "no key", "no BIC", "no key material", "another key's name"],
)
def test_a_malformed_anchor_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "anchor.json"
    path.write_bytes(content)
    with pytest.raises(TrustError) as refused:
        TrustStore.open(path)
    assert refused.value.reason == TrustReason.ANCHOR_MALFORMED
