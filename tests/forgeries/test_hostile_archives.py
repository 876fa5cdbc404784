"""Archives made to break the verifier: each ends in a refusal that names what is wrong, without much memory."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from clearing import (
    COORDINATOR,
    OPERATORS,
    TO_FINAL,
    approved,
    export,
    honest,
    in_format_2,
    refused,
    repacked,
    scheme,
    signed_by_operators,
)
from lying import finality, other_answer
from msgspec.structs import replace
from typer.testing import CliRunner

from compliance.crypto import canonical, dsse
from compliance.crypto.keys import SigningKey
from compliance.cycle.states import Trigger
from compliance.export.archive import ARCHIVE_BYTES_MAX, FILES_MAX, Archive, ArchiveError, pack, unpack
from compliance.export.manifest import MANIFEST_BYTES_MAX, MANIFEST_TYPE
from compliance.export.record import MANIFEST, MANIFEST_SIGNED
from compliance.verifier.findings import Finding
from compliance.verifier.verify import VerificationError, verify_bytes
from gateway.federation.commands import audit

FUZZ_S = 6
"""How long each loop of mutations runs at most; a slow machine tries fewer."""

ODD: list[Any] = [
    None, True, 0, -1, 2**53, 2**70, 1.5, "", "x", "\u202e", "9" * 40, "-0", [], {}, [[]], {"a": {}},
    "2026-13-99T99:99:99Z", "0" * 64, "ZZZZZZZZ", ["", None], "final", "break",
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where every value within a JSON value stands."""
    found = [path]
    if isinstance(value, dict):
        for name, inner in value.items():
            found += places(inner, (*path, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            found += places(inner, (*path, number))
    return found


def mutated(value: Any, rng: random.Random) -> Any:
    """Return a JSON value with one value within it changed, taken away, repeated or exchanged."""
    copy = json.loads(json.dumps(value))
    path = rng.choice(places(copy)[1:] or [()])
    if not path:
        return rng.choice(ODD)
    parent = copy
    for step in path[:-1]:
        parent = parent[step]
    match rng.randrange(4):
        case 0:
            del parent[path[-1]]
        case 1 if isinstance(parent, list):
            parent.append(parent[path[-1]])
        case 2 if isinstance(parent, dict):
            parent[rng.choice(["", "extra", "cycle", "\x1b"])] = parent[path[-1]]
        case _:
            parent[path[-1]] = rng.choice(ODD)
    return copy


def outcome(data: bytes) -> str | None:
    """Return why an archive is refused, None if it verifies. Anything but a VerificationError goes on up."""
    try:
        verify_bytes(data, scheme().anchor)
    except VerificationError as error:
        refusal = error
    else:
        return None
    # Nothing that no step expected: the reason is one of its own.
    assert "can't be gone through" not in refusal.detail, refusal
    return str(refusal)


def until(seconds: float, most: int) -> Any:
    end = time.monotonic() + seconds
    for number in range(most):
        if number and time.monotonic() > end:
            return
        yield number


def test_json_values_changed_by_whoever_holds_the_key() -> None:
    """The coordinator signs whatever it likes, and writes what no program of ours would."""
    rng, files = random.Random(23), unpack(export())
    names = [name for name, content in files.items() if content and not name.startswith("manifest")]
    for _ in until(FUZZ_S, 400):
        name = rng.choice(names)
        lines = files[name].split(b"\n") if name.endswith(".jsonl") else [files[name]]
        place = rng.randrange(len(lines))
        if not lines[place]:
            continue
        value = mutated(json.loads(lines[place]), rng)
        lines[place] = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        changed = b"\n".join(lines)
        if changed != files[name]:
            refusal = outcome(repacked({**files, name: changed}))
            # No later event names the last one, and none names a change of a limit from before.
            free = name == "limit-events.jsonl" or (name == "events.jsonl" and place == len(lines) - 2)
            assert refusal is not None or free, (name, value)


def test_documents_changed_by_whoever_holds_the_key() -> None:
    """What the coordinator signs itself is signed anew, whatever it says."""
    rng, files = random.Random(29), unpack(export())
    names = ["result.jsonl", "instructions.jsonl", "finality.jsonl", "trust-lists.jsonl", "operators.jsonl"]
    for _ in until(FUZZ_S, 400):
        name = rng.choice(names)
        lines = [line for line in files[name].split(b"\n") if line]
        place = rng.randrange(len(lines))
        envelope = canonical.decode(lines[place], dsse.Envelope)
        payload = envelope.payload_bytes()
        value = mutated(json.loads(payload), rng)
        altered = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        if altered == payload:
            continue
        lines[place] = canonical.encode(dsse.seal(altered, envelope.payloadType, scheme().keys[COORDINATOR]))
        changed = b"".join(line + b"\n" for line in sorted(lines))
        refusal = outcome(repacked({**files, name: changed}))
        # Of an operator who decided nothing here, the register may say anything.
        assert refusal is not None or name == "operators.jsonl", (name, value)


def test_bits_flipped_in_transit() -> None:
    rng, data = random.Random(31), export()
    for _ in until(FUZZ_S, 400):
        flipped = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 8))):
            flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        assert outcome(bytes(flipped)) is not None or bytes(flipped) == data
    for _ in until(FUZZ_S, 100):
        assert outcome(data[: rng.randrange(len(data))]) is not None


def fields(offset: int, value: int, size: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[offset : offset + size] = value.to_bytes(size, "little")

    return change


@pytest.mark.parametrize(
    "change",
    [
        fields(4, 45, 2),  # Version needed: ZIP64.
        fields(6, 1, 2),  # Encrypted.
        fields(6, 8, 2),  # Sizes follow the content.
        fields(8, 8, 2),  # Deflated.
        fields(10, 1, 2),  # Another time.
        fields(14, 0, 4),  # No checksum.
        fields(18, 2**32 - 1, 4),  # Stored elsewhere.
        fields(22, 0, 4),  # Nothing in it.
        fields(26, 2**16 - 1, 2),  # A name of 64 kB.
        fields(28, 4, 2),  # An extra field.
    ],
)
def test_a_header_that_says_something_else(change: Callable[[bytearray], None]) -> None:
    data = bytearray(export())
    change(data)
    error = refused(bytes(data))
    assert (error.step, error.finding) == (1, Finding.ARCHIVE_MALFORMED)


@pytest.mark.parametrize(("at", "what"), [(38, "a link"), (36, "a directory"), (42, "another offset"), (12, "a date")])
def test_a_central_directory_that_says_something_else(at: int, what: str) -> None:
    """Other programs go by the central directory: it must say what the files say, to the byte."""
    data = bytearray(export())
    central = data.index(b"PK\x01\x02")
    data[central + at] ^= 0xA0
    error = refused(bytes(data))
    assert (error.step, error.finding) == (1, Finding.ARCHIVE_MALFORMED), what


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "a/b", "a\\b", "\x1b[2J", "\u202etxt", "con:", "x" * 200, ".."]
)
def test_a_name_that_leads_elsewhere_or_steers_a_terminal(name: str) -> None:
    raw = name.encode()
    header = b"PK\x03\x04" + (20).to_bytes(2, "little") + bytes(4) + (0).to_bytes(2, "little") + b"\x21\x00"
    header += zlib.crc32(b"x").to_bytes(4, "little") + (1).to_bytes(4, "little") * 2
    header += len(raw).to_bytes(2, "little") + bytes(2)
    error = refused(header + raw + b"x")
    assert error.finding is Finding.ARCHIVE_MALFORMED
    assert error.detail.isprintable()


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("name", ["events.jsonl", "checks.json", "rulebook.json", MANIFEST])
def test_json_inside_json_without_end(name: str, opening: bytes) -> None:
    files = unpack(export())
    deep = opening * 200_000
    if name != MANIFEST:
        error = refused(repacked({**files, name: deep + (b"\n" if name.endswith("l") else b"")}))
    else:
        signed = canonical.encode(dsse.seal(deep, MANIFEST_TYPE, scheme().keys[COORDINATOR]))
        error = refused(pack({**files, MANIFEST: deep, MANIFEST_SIGNED: signed}))
    assert (error.step, error.finding) == (2, Finding.FORMAT_VIOLATION)


def test_numbers_without_end() -> None:
    events = honest().events
    for number in (2**63, -(2**63), 10**30):
        told = replace(events[-1], data={**events[-1].data, "n": number})
        outcome(scheme().export(replace(honest(), events=(*events[:-1], told))))
    files = unpack(export())
    for text in (b"1e999", b"NaN", b"-" + b"9" * 10_000, b'"' + b"9" * 1_000_000 + b'"'):
        assert refused(repacked({**files, "checks.json": text})).finding is Finding.FORMAT_VIOLATION


def test_more_files_than_an_archive_holds() -> None:
    error = refused(b"".join(_stored(f"f{number:04d}") for number in range(1_200)))
    assert "more than 1000 files" in error.detail


@pytest.mark.parametrize(("size", "says"), [(2 * 1024**3, "not a ZIP archive"), (ARCHIVE_BYTES_MAX + 1, "more than")])
def test_an_archive_of_2000_banks_is_read_and_one_beyond_its_form_is_not(tmp_path: Path, size: int, says: str) -> None:
    file = tmp_path / "large.zip"
    with file.open("wb") as written:
        written.truncate(size)
    with file.open("rb") as source, pytest.raises(ArchiveError, match=says):
        Archive(source)


def test_all_of_the_largest_archive_has_a_place() -> None:
    """A place has 32 bits, and before the end of an archive stand its files and twice their headers."""
    headers = FILES_MAX * (46 + 100) * 2
    assert ARCHIVE_BYTES_MAX + headers < 2**32


@pytest.mark.parametrize("name", [MANIFEST, MANIFEST_SIGNED])
def test_a_manifest_that_nobody_signed_is_not_read_whole(name: str) -> None:
    error = refused(pack({**unpack(export()), name: b" " * (MANIFEST_BYTES_MAX + 1)}))
    assert (error.step, error.finding) == (2, Finding.FORMAT_VIOLATION)
    assert f"{name} has {MANIFEST_BYTES_MAX + 1} bytes" in error.detail


def _stored(name: str) -> bytes:
    return pack({name: b""})[: 30 + len(name)]


# --- a terminal -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_json", [False, True])
def test_names_that_steer_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    """All is as it should be in this archive, but for what the operator and the agent's reference are called."""
    evil = "\x1b]0;owned\x07\u202eVERIFIED\r\n"
    reference = "\x9b2J\u202eowned"  # XML has no escape characters, but for those of another age.
    monkeypatch.setitem(OPERATORS, evil, SigningKey.generate())
    record = replace(
        finality(agent_reference=reference),
        operators=(scheme().sign(COORDINATOR, scheme().operators()),),
        proposals=(signed_by_operators(replace(honest().proposals[0], made_by=evil)),),
        settlements=(other_answer("RTGS-1", reference),),
    )
    assert record.result is not None
    steps = approved(canonical.digest(record.result.payload_bytes()))
    said = {"reference": reference}
    after = tuple((trigger, said if trigger is not Trigger.INSTRUCTIONS_SIGNED else {}) for trigger, _ in TO_FINAL)
    record = replace(record, events=scheme().events(record, steps, after))
    scheme().anchor.write(tmp_path / "anchor.json")
    app = typer.Typer()
    audit.register(app)
    options = ["verify", str(tmp_path / "a.zip"), "--trust", str(tmp_path / "anchor.json")]
    unknown = replace(record, operators=honest().operators)
    for archived, code, lines in ((record, 0, 17), (in_format_2(record), 0, 16), (unknown, 1, 10)):
        (tmp_path / "a.zip").write_bytes(scheme().export(archived))
        printed = CliRunner().invoke(app, [*options, "--json"] if as_json else options)
        assert printed.exit_code == code, printed.output
        assert all(letter.isprintable() for letter in printed.output.replace("\n", ""))
        assert "owned" in printed.output
        assert len(printed.output.splitlines()) == (1 if as_json else lines)


# --- memory ---------------------------------------------------------------------------------------------------

BANKS = 104

WEIGH = """
import sys
from pathlib import Path
from compliance.trust import Anchor
from compliance.verifier.verify import verify_export
small, large, anchor = map(Path, sys.argv[1:4])
def peak():
    # Not getrusage: its peak is the parent's where that was greater when this process began.
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
# Whatever the program needs for itself it needs for a small archive too.
verify_export(small, Anchor.read(Path(sys.argv[4])))
before = peak()
verify_export(large, Anchor.read(anchor))
print(peak() - before, large.stat().st_size)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from /proc")
def test_verifying_takes_at_most_three_times_the_archives_size(tmp_path: Path) -> None:
    """Measured as the growth of a process's peak resident set, after it verified a small archive."""
    from crowd import crowded_export  # A cycle of many banks, each with each, in several currencies.

    crowd, data = crowded_export(BANKS)
    paths = {name: tmp_path / name for name in ("small.zip", "large.zip", "large.json", "small.json")}
    paths["small.zip"].write_bytes(export())
    paths["large.zip"].write_bytes(data)
    crowd.anchor.write(paths["large.json"])
    scheme().anchor.write(paths["small.json"])
    done = subprocess.run(
        [sys.executable, "-c", WEIGH, *(str(path) for path in paths.values())],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    grown, size = map(int, done.stdout.split())
    assert size > 10_000_000
    assert grown <= 3 * size, f"{grown:,} bytes for an archive of {size:,}"
