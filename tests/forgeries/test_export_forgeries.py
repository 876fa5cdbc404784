"""Damaged and rebuilt audit exports: each must fail at its own step; the honest one must pass."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from clearing import (
    COORDINATOR,
    CYCLE,
    OTHER_CYCLE,
    TO_MATCHED,
    A,
    Scheme,
    export,
    honest,
    refused,
    repacked,
    scheme,
    signed_by_operators,
)
from msgspec.structs import replace

from compliance.crypto import canonical
from compliance.crypto.dsse import Envelope, Signature
from compliance.crypto.keys import SigningKey
from compliance.cycle.approval import Action
from compliance.cycle.limits import Limits
from compliance.cycle.states import Trigger
from compliance.export.archive import pack, unpack
from compliance.export.files import to_files
from compliance.export.record import FILES, MANIFEST, MANIFEST_SIGNED, Attendance
from compliance.trust import Anchor, AnchorError
from compliance.verifier.findings import Finding
from compliance.verifier.verify import STEPS, StepReport, verify_bytes, verify_export

# --- the honest export --------------------------------------------------------------------------------------


def test_the_honest_export_verifies(tmp_path: Path) -> None:
    path = tmp_path / "export.zip"
    path.write_bytes(export())
    heard: list[StepReport] = []
    report = verify_export(path, scheme().anchor, on_step=heard.append)
    assert [step.number for step in report.steps] == list(range(1, len(STEPS) + 1))
    assert tuple(heard) == report.steps
    assert (report.cycle, report.state, report.sha256) == (CYCLE, "final", canonical.digest(export()))
    assert "alice proposed, bob confirmed" in report.steps[8].detail
    assert "RTGS-1" in report.steps[9].detail


def test_the_same_record_gives_the_same_bytes() -> None:
    record = honest()
    shuffled = replace(
        record,
        positions=record.positions[::-1],
        attestations=record.attestations[::-1],
        events=record.events[::-1],
        trust_lists=record.trust_lists[::-1],
        receipts=record.receipts + record.receipts[:1],
    )
    assert scheme().export(shuffled) == export()
    assert set(to_files(record)) == set(FILES)


def test_any_zip_program_opens_it() -> None:
    with zipfile.ZipFile(io.BytesIO(export())) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == unpack(export())


@pytest.mark.parametrize(
    ("state", "trigger", "cuts"), [("abandoned", Trigger.ABANDONED, 1), ("attesting", Trigger.CUTS_CLOSED, 4)]
)
def test_a_cycle_that_came_less_far_verifies(state: str, trigger: Trigger, cuts: int) -> None:
    record = honest()
    abandoned = signed_by_operators(replace(record.proposals[0], action=Action.ABANDON, subject_sha256=None))
    early = replace(
        record,
        state=state,
        cuts=record.cuts[:cuts],
        attestations=(),
        positions=(),
        screenings=(),
        equivocations=(),
        settled=(),
        participants=tuple(
            Attendance(participant=of.participant, cut_at=of.cut_at if place < cuts else None)
            for place, of in enumerate(record.participants)
        ),
        proposals=(abandoned,) if trigger is Trigger.ABANDONED else (),
        result=None,
        instructions=(),
        receipts=(),
        settlements=(),
        finality=None,
        checks=(),
        certificates=(),
        limits=Limits(),
    )
    by_proposal = {"proposal": "0190"} if trigger is Trigger.ABANDONED else {}
    events = scheme().events(early, [(trigger, by_proposal)], after=(), before=TO_MATCHED[:1])
    assert verify_bytes(scheme().export(replace(early, events=events)), scheme().anchor).result is None


# --- damage to the file -------------------------------------------------------------------------------------


def test_every_flipped_byte_is_found() -> None:
    data = export()
    rng = random.Random(11)
    ends = [*range(40), *range(len(data) - 1200, len(data))]
    for offset in {*ends, *rng.sample(range(len(data)), 1500)}:
        flipped = bytearray(data)
        flipped[offset] ^= 1 << rng.randrange(8)
        assert refused(bytes(flipped)).step <= 2, offset


@pytest.mark.parametrize("name", [*FILES, MANIFEST, MANIFEST_SIGNED])
def test_every_file_is_bound(name: str) -> None:
    """A changed file in an otherwise perfect archive: the manifest, not the checksum, has to find it."""
    files = unpack(export())
    content = files[name] or b"{}\n"
    for offset in {0, len(content) // 2, len(content) - 1}:
        changed = bytearray(content)
        changed[offset] ^= 1
        assert refused(pack({**files, name: bytes(changed)})).step == 2
    error = refused(pack({key: value for key, value in files.items() if key != name}))
    assert (error.step, error.finding) == (2, Finding.FILE_MISSING)
    error = refused(pack({("x" + key if key == name else key): value for key, value in files.items()}))
    assert (error.step, error.finding) == (2, Finding.FILE_MISSING)


def test_an_added_file_is_found() -> None:
    error = refused(pack({**unpack(export()), "readme.txt": b"hello"}))
    assert (error.step, error.finding) == (2, Finding.FILE_ADDED)
    error = refused(repacked({**unpack(export()), "readme.txt": b"hello"}))
    assert (error.step, error.finding) == (2, Finding.FORMAT_VIOLATION)


@pytest.mark.parametrize("keep", [0, 1, 3, 29, 30, 40, 100, 5_000, -1_000, -100, -22, -1])
def test_a_truncated_archive(keep: int) -> None:
    error = refused(export()[:keep])
    assert (error.step, error.finding) == (1, Finding.ARCHIVE_MALFORMED)


def rezipped(
    names: Callable[[list[str]], list[str]] = list, method: int = zipfile.ZIP_STORED, comment: bytes = b""
) -> bytes:
    """Return the same files through Python's own zip writer."""
    files = unpack(export())
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name in names(sorted(files)):
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = method
            archive.writestr(info, files[name])
        archive.comment = comment
    return target.getvalue()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: rezipped(lambda names: [*names, names[-1]]), "twice"),
        (lambda: rezipped(lambda names: names[::-1]), "order"),
        (lambda: rezipped(method=zipfile.ZIP_DEFLATED), "compression method 8"),
        (lambda: rezipped(comment=b"a comment"), "byte"),
        (lambda: export() + b"\x00", "byte"),
        (lambda: b"\x00" + export(), "not a ZIP"),
        (lambda: export() + export(), "byte"),
        (lambda: b"", "not a ZIP"),
        (lambda: b"PK\x05\x06" + bytes(18), "not a ZIP"),
        (lambda: b"garbage" * 100, "not a ZIP"),
    ],
)
def test_an_archive_of_another_form(data: Callable[[], bytes], message: str) -> None:
    error = refused(data())
    assert (error.step, error.finding) == (1, Finding.ARCHIVE_MALFORMED)
    assert message in error.detail


def test_a_zip_bomb_is_refused_unopened() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("positions.jsonl", bytes(50_000_000))
    assert "isn't stored" in refused(target.getvalue()).detail
    # A header that claims four gigabytes, and one that claims another size than it stores.
    for stored, claimed in ((2**32 - 2, 2**32 - 2), (10, 2**32 - 2)):
        name = b"positions.jsonl"
        header = struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 0, 0, 33, 0, stored, claimed, len(name), 0)
        assert refused(header + name + bytes(10)).step == 1


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/b", "A.json", ""])
def test_a_name_that_leads_elsewhere(name: str) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), b"x")
    assert refused(target.getvalue()).step == 1


# --- the wrong key ------------------------------------------------------------------------------------------


def test_signed_by_a_stranger() -> None:
    error = refused(repacked(unpack(export()), SigningKey.generate()))
    assert (error.step, error.finding) == (2, Finding.MANIFEST_UNSIGNED)
    error = refused(repacked(unpack(export()), scheme().keys[A]))
    assert (error.step, error.finding) == (2, Finding.MANIFEST_UNSIGNED)


def test_another_scheme_altogether() -> None:
    stranger = Scheme()
    data = stranger.export(stranger.record())
    assert verify_bytes(data, stranger.anchor).state == "final"
    assert refused(data).finding is Finding.MANIFEST_UNSIGNED


def test_another_manifest_under_the_old_signature() -> None:
    files = unpack(export())
    manifest = json.loads(files[MANIFEST])
    manifest["cycle"] = OTHER_CYCLE
    error = refused(pack({**files, MANIFEST: canonical.encode(manifest)}))
    assert (error.step, error.finding) == (2, Finding.FILE_CHANGED)


def test_a_second_signature_or_odd_base64_on_the_manifest() -> None:
    files = unpack(export())
    envelope = canonical.decode(files[MANIFEST_SIGNED], Envelope)
    extra = replace(envelope, signatures=(*envelope.signatures, Signature(keyid="x", sig="AAAA")))
    signature = envelope.signatures[0]
    # The last character before the padding has four spare bits: another character, the same signature.
    odd = replace(signature, sig=signature.sig[:-3] + chr(ord(signature.sig[-3]) + 1) + "==")
    for other in (extra, replace(envelope, signatures=(odd,)), replace(envelope, signatures=())):
        assert refused(pack({**files, MANIFEST_SIGNED: canonical.encode(other)})).step == 2


def test_an_unusable_anchor() -> None:
    with pytest.raises(AnchorError):
        verify_bytes(export(), Anchor(bic=COORDINATOR, keys=()))


@pytest.mark.parametrize("name", ["operators.jsonl", "trust-lists.jsonl"])
def test_a_list_without_a_version_is_named_by_its_file(name: str) -> None:
    files = {**unpack(export()), name: canonical.encode(honest().cuts[0]) + b"\n"}
    error = refused(repacked(files))
    assert (error.step, error.finding) == (2, Finding.FORMAT_VIOLATION)
    assert error.detail.startswith(f"{name}: ")
