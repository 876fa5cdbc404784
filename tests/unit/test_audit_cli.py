"""`concordat verify` as a user meets it: exit codes, one line per step, and nothing heavy imported."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from compliance.counting import counted
from compliance.crypto import canonical, dsse
from compliance.crypto.keys import SigningKey
from compliance.event_log import LoggedEvent
from compliance.export.manifest import build_export
from compliance.export.record import CycleRecord
from compliance.statements import Member, OperatorRegister, TrustKey, TrustList
from compliance.trust import Anchor
from gateway.coordinator.rulebook import load
from gateway.federation.commands import audit

CYCLE, COORDINATOR = "2026-03-02-01", "CNCDXXC0"
KEY = SigningKey.generate()


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    audit.register(app)
    return app


@pytest.fixture
def anchor(tmp_path: Path) -> Path:
    path = tmp_path / "anchor.json"
    path.write_bytes(msgspec.json.encode(Anchor.of(COORDINATOR, KEY.verifying_key)))
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The export of a cycle that was just opened."""
    member = Member(
        bic=COORDINATOR,
        name="Clearing house",
        kind="coordinator",
        status="active",
        url="http://localhost",
        keys=(TrustKey(kid=KEY.kid, alg="Ed25519", x=KEY.x, use="sign", status="active"),),
    )
    opened = LoggedEvent(
        id=3,
        type="cycle.opened",
        at="2026-03-02T06:00:00Z",
        cycle=CYCLE,
        data={"value_date": "2026-03-02", "currencies": list(load().currencies)},
        audience=None,
        prev_hash="0" * 64,
    )
    record = CycleRecord(
        cycle=CYCLE,
        value_date="2026-03-02",
        state="open",
        rulebook=canonical.encode(load()),
        trust_lists=(dsse.sign(TrustList(version=1, issuer="http://localhost", members=(member,)), KEY),),
        events=(opened,),
        operators=(dsse.sign(OperatorRegister(coordinator=COORDINATOR, version=1, operators=()), KEY),),
    )
    path = tmp_path / "export.zip"
    path.write_bytes(build_export(record, KEY))
    return path


def test_verified(app: typer.Typer, anchor: Path, archive: Path) -> None:
    result = CliRunner().invoke(app, ["verify", str(archive), "--trust", str(anchor)])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert [line.split()[:2] for line in lines[:12]] == [["✓", str(number)] for number in range(1, 13)]
    assert lines[-1].startswith("VERIFIED: ")


def test_not_verified(app: typer.Typer, anchor: Path, archive: Path) -> None:
    archive.write_bytes(archive.read_bytes().replace(b'"state":"open"', b'"state":"done"'))
    result = CliRunner().invoke(app, ["verify", str(archive), "--trust", str(anchor)])
    assert result.exit_code == 1
    assert "✗  1 The archive is well formed: cycle.json was changed" in result.output
    assert "NOT VERIFIED" in result.output


@pytest.mark.parametrize("spoil", ["no archive", "no anchor", "anchor is no JSON", "anchor without keys"])
def test_not_readable(app: typer.Typer, anchor: Path, archive: Path, spoil: str) -> None:
    match spoil:
        case "no archive":
            archive.unlink()
        case "no anchor":
            anchor.unlink()
        case "anchor is no JSON":
            anchor.write_text("{")
        case "anchor without keys":
            anchor.write_text(f'{{"bic":"{COORDINATOR}","keys":[]}}')
    result = CliRunner().invoke(app, ["verify", str(archive), "--trust", str(anchor)])
    assert result.exit_code == 2
    assert "can't read" in result.output


def test_an_export_from_nowhere_leaves_no_file(app: typer.Typer, tmp_path: Path) -> None:
    KEY.save(tmp_path / "auth.pem")
    target = tmp_path / "out.zip"
    options = ["--coordinator", "http://127.0.0.1:9", "--coordinator-bic", COORDINATOR, "--client", "ada"]
    options += ["--key", str(tmp_path / "auth.pem"), "--out", str(target)]
    result = CliRunner().invoke(app, ["export", CYCLE, *options])
    assert result.exit_code == 1
    assert not target.exists()


def test_the_verifier_imports_nothing_heavy() -> None:
    script = (
        "import sys, compliance.verifier.verify, gateway.federation.commands.audit;"
        "heavy = {'litestar', 'sqlalchemy', 'asyncpg', 'httpx', 'textual', 'numpy', 'rapidfuzz'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stderr == ""


def test_what_isnt_a_cycles_archive_or_an_anchor_is_said_to_be_what_it_is(
    app: typer.Typer, anchor: Path, archive: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "ALDRXXA0-journal-0-199.zip"
    with zipfile.ZipFile(journal, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("events.csv", "postings.csv", "closing.csv", "manifest.json"):
            file.writestr(name, "")
    said = CliRunner().invoke(app, ["verify", str(journal), "--trust", str(anchor)])
    assert (said.exit_code, "is an archive of a bank's journal" in said.output) == (2, True)
    application = tmp_path / "alder.json"
    application.write_text('{"payloadType": "application/json", "payload": "", "signatures": []}')
    for checked in (archive, application):
        said = CliRunner().invoke(app, ["verify", str(checked), "--trust", str(application)])
        assert (said.exit_code, f"{application} isn't a trust anchor" in said.output) == (2, True)


def test_a_cycle_that_isnt_final_is_said_not_to_be(app: typer.Typer, anchor: Path, archive: Path) -> None:
    said = CliRunner().invoke(app, ["verify", str(archive), "--trust", str(anchor)]).output
    assert "·    This cycle isn't final: it is open\n" in said
    assert "1 trust list\n" in said
    assert "1 event\n" in said


def test_things_are_counted_as_people_do() -> None:
    assert [counted(number, "request") for number in (0, 1, 2, 1_000)] == [
        "0 requests", "1 request", "2 requests", "1,000 requests",
    ]  # fmt: skip
    assert [counted(number, "currency", "currencies") for number in (1, 3)] == ["1 currency", "3 currencies"]
