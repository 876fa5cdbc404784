"""One pair of a cycle as a bank shows it: verified from the trust anchor alone, and whatever is forged is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
import typer
from msgspec.structs import replace
from typer.testing import CliRunner

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import EvidenceError
from compliance.crypto.keys import SigningKey
from compliance.cycle.positions import Position
from compliance.position_evidence import FORMAT, PositionEvidence, verify_position
from compliance.statements import DATED_TRUST_LIST_TYPE, Attestation, Member, PositionStatement, TrustKey, TrustList
from compliance.trust import Anchor, AnchorError
from gateway.federation.commands import audit
from participants.cycle.attestations import attest, newest, proven

CYCLE = "2026-11-27-01"
BANK, OTHER, THIRD, HOUSE = "ALDRXXA0", "BRCHXXB0", "CEDRXXC0", "CNCDXXC0"
ROOT = "ab" * 32
ANCHOR_KEY, SIGN, RETIRED, REVOKED, OF_OTHER, STRANGER = (SigningKey.generate() for _ in range(6))
ANCHOR = Anchor.of(HOUSE, ANCHOR_KEY.verifying_key)
POSITIONS = [
    Position("EUR", BANK, OTHER, 1, 1, 3, 2, "500", ROOT, 4, 3, 0, "0", ROOT),
    Position("EUR", BANK, THIRD, 1, 1, 1, 1, "77777", ROOT, 1, 0, 0, "0", ROOT),
    Position("USD", BANK, OTHER, 1, 1, 9, 9, "900", ROOT, 1, 0, 0, "0", ROOT),
]
KEY = ("EUR", BANK, OTHER)


def key(of: SigningKey, status: Literal["active", "retired", "revoked"] = "active") -> TrustKey:
    return TrustKey(kid=of.kid, alg="Ed25519", x=of.x, use="sign", status=status)


def member(bic: str, *keys: TrustKey, kind: Literal["coordinator", "participant"] = "participant") -> Member:
    return Member(bic=bic, name=bic, kind=kind, status="active", url=f"https://{bic}.example", keys=keys)


TRUST_LIST = TrustList(
    version=7,
    issuer="https://house.example",
    members=(
        member(HOUSE, key(ANCHOR_KEY), kind="coordinator"),
        member(BANK, key(SIGN), key(RETIRED, "retired"), key(REVOKED, "revoked")),
        member(OTHER, key(OF_OTHER)),
    ),
)


def listed(by: SigningKey = ANCHOR_KEY) -> dsse.Envelope:
    return dsse.sign(TRUST_LIST, by, payload_type=DATED_TRUST_LIST_TYPE)


def evidence(by: SigningKey = SIGN, *, bank: str = BANK, stated: list[Position] = POSITIONS) -> PositionEvidence:
    said = attest(bank=bank, cycle=CYCLE, stated=stated, screening=None, complete=True, signer=by).value
    shown = proven([said], KEY)
    assert shown is not None
    return PositionEvidence(format=FORMAT, proven=shown, trust_list=listed())


@pytest.mark.parametrize("by", [SIGN, RETIRED], ids=["by its key", "by a key of before"])
def test_a_pair_is_proven_and_no_other_one_is_told_of(by: SigningKey) -> None:
    shown = evidence(by)
    verified = verify_position(shown, ANCHOR)
    assert (verified.attestation.participant, verified.attestation.statements, verified.trust_list) == (BANK, 3, 7)
    assert (verified.statement.pair, verified.statement.flows[0].amount_minor) == ((BANK, OTHER), "500")
    told = msgspec.json.encode(shown.proven) + shown.proven.attestation.payload_bytes()
    assert not any(secret in told for secret in (THIRD.encode(), b"77777", b"USD"))


def with_proven(**changes: Any) -> Callable[[], PositionEvidence]:
    def changed() -> PositionEvidence:
        shown = evidence()
        return replace(shown, proven=replace(shown.proven, **changes))

    return changed


def of_other_amount() -> PositionEvidence:
    shown = evidence()
    return replace(shown, proven=replace(shown.proven, statement=shown.proven.statement.replace('"500"', '"501"')))


@pytest.mark.parametrize(
    ("forged", "reason"),
    [
        (lambda: evidence(STRANGER), "unknown_key"),
        (lambda: evidence(REVOKED), "unknown_key"),
        (lambda: evidence(OF_OTHER), "unknown_key"),
        (lambda: evidence(SIGN, bank=OTHER), "unknown_key"),
        (lambda: evidence(SIGN, bank="NOBODYX0"), "unknown_key"),
        (lambda: evidence(OF_OTHER, bank=HOUSE), "unknown_key"),
        (lambda: evidence(ANCHOR_KEY, bank=HOUSE), "unknown_key"),
        (of_other_amount, "not_attested"),
        (with_proven(index=1), "not_attested"),
        (with_proven(path=()), "not_attested"),
        (with_proven(statement="{}"), "schema_violation"),
        (with_proven(attestation=dsse.seal(b"{}", "text/plain", SIGN)), "schema_violation"),
        (with_proven(attestation=dsse.seal(b"\xff", "text/plain", SIGN)), "schema_violation"),
        (lambda: replace(evidence(), trust_list=listed(STRANGER)), "unknown_key"),
        (lambda: replace(evidence(), trust_list=evidence().proven.attestation), "wrong_payload_type"),
    ],
)
def test_forged_evidence(forged: Callable[[], PositionEvidence], reason: str) -> None:
    with pytest.raises(EvidenceError) as refused:
        verify_position(forged(), ANCHOR)
    assert refused.value.reason == reason


def both(by: SigningKey = OF_OTHER, bank: str = OTHER, stated: Position = POSITIONS[0]) -> PositionEvidence:
    """Return the evidence with what the other bank attested besides."""
    said = attest(bank=bank, cycle=CYCLE, stated=[stated], screening=None, complete=True, signer=by).value
    return replace(evidence(), counterparty=proven([said], KEY))


def test_both_banks_of_a_pair_are_proven() -> None:
    assert verify_position(both(), ANCHOR).both
    assert not verify_position(evidence(), ANCHOR).both


@pytest.mark.parametrize(
    ("forged", "reason"),
    [
        (lambda: both(SIGN, BANK), "not_attested"),
        (lambda: both(SIGN), "unknown_key"),
        (lambda: both(stated=replace(POSITIONS[0], forth_minor="501")), "not_attested"),
        (lambda: replace(both(), proven=both().counterparty), "not_attested"),
    ],
)
def test_what_the_other_bank_did_not_attest(forged: Callable[[], PositionEvidence], reason: str) -> None:
    with pytest.raises(EvidenceError) as refused:
        verify_position(forged(), ANCHOR)
    assert refused.value.reason == reason


def test_a_list_of_another_house() -> None:
    with pytest.raises(AnchorError):
        verify_position(evidence(), Anchor.of("OTHRXXC0", ANCHOR_KEY.verifying_key))


def test_the_newest_revision_is_shown() -> None:
    first = attest(bank=BANK, cycle=CYCLE, stated=POSITIONS, screening=None, complete=True, signer=SIGN).value
    mended = replace(POSITIONS[0], revision=2, forth_count=1, forth_minor="400")
    second = attest(bank=BANK, cycle=CYCLE, stated=[mended], screening=None, complete=False, signer=SIGN).value
    shown = proven([first, second], KEY)
    assert shown is not None
    assert canonical.decode(shown.statement.encode(), PositionStatement).revision == 2
    assert canonical.decode(shown.attestation.payload_bytes(), Attestation).statements == 1
    assert newest([first, second])[KEY] == mended
    assert proven([first, second], ("EUR", OTHER, THIRD)) is None


# --- the command ---------------------------------------------------------------------------------------------


@pytest.fixture
def verify(tmp_path: Path) -> Callable[..., Any]:
    app = typer.Typer()
    audit.register(app)
    anchor = tmp_path / "anchor.json"
    anchor.write_bytes(msgspec.json.encode(ANCHOR))

    def run(content: bytes, *options: str) -> Any:
        file = tmp_path / "pair.json"
        file.write_bytes(content)
        return CliRunner().invoke(app, ["verify", str(file), "--trust", str(anchor), *options])

    return run


def test_the_command_says_what_is_verified(verify: Callable[..., Any]) -> None:
    answer = verify(msgspec.json.encode(evidence()))
    assert answer.exit_code == 0, answer.output
    assert f"{BANK} to {OTHER}: 2 payments, 500 minor units of EUR, numbers 1 to 3" in answer.output
    assert "VERIFIED" in answer.output
    whole = verify(msgspec.json.encode(both()))
    assert f"VERIFIED: {BANK} and {OTHER} attested this" in whole.output
    said = json.loads(verify(msgspec.json.encode(both()), "--json").output)
    assert said["both"]
    text = verify(msgspec.json.encode(both())).output
    assert said["unproven"]
    assert all(sentence in text for sentence in said["unproven"])
    assert f"trust list {said['trust_list']} names" in text
    told = json.loads(verify(msgspec.json.format(msgspec.json.encode(evidence())), "--json").output)
    assert (told["verified"], told["participant"], told["statement"]["revision"]) == (True, BANK, 1)


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        (msgspec.json.encode(of_other_amount()), "not_attested"),
        (b"{", "malformed"),
        (b"{}", "malformed"),
        (b'{"format":"concordat-position/2"}', "malformed"),
        (b"{" * 5000, "malformed"),
    ],
    ids=["another amount", "cut short", "nothing", "a later format", "deep"],
)
def test_the_command_refuses(verify: Callable[..., Any], content: bytes, finding: str) -> None:
    answer = verify(content)
    assert (answer.exit_code, f"({finding})" in answer.output) == (1, True), answer.output
    told = json.loads(verify(content, "--json").output)
    assert (told["verified"], told["finding"]) == (False, finding)
