"""What every command says of a directory that isn't there, a path that can't be written, a database that is away.

A line on standard error and exit code 2 (1 of what others don't answer), nothing made by the way, and no traceback: an
error that is raised fails the test.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Said, concordat
from support import free_port

from gateway.federation.http.client import MemberIdentity
from gateway.federation.storage.postgres import EmbeddedServer
from tests.reference.pages import every_command

COORDINATOR = "--coordinator {url} --coordinator-bic CNCDXXC0 --client carol --key {key}"
BANK = "--url {url} --bank ALFADEFF --client carol --key {key}"
# Each with all that it reads and writes: `{out}` is to be written.
COMMANDS = {
    "coordinator init": "",
    "coordinator serve": "",
    "coordinator rulebook": "--rulebook {missing}",
    "coordinator anchor": "--out {out}",
    "coordinator add-operator": "carol --create {out}",
    "coordinator invite": "BETAFRPP",
    "coordinator add-participant": "{missing}",
    "coordinator add-agent": "{missing}",
    "coordinator status": "",
    "participant import": "{payments} --report {out} " + BANK,
    "participant file-status": "{missing} " + BANK,
    "participant file-cancel": "{missing} " + BANK,
    "participant payments": BANK,
    "participant payment": "018f0000-0000-7000-8000-000000000001 " + BANK,
    "participant reconcile": "BETAFRPP " + BANK,
    "participant webhook-add": "https://core.example/hook " + BANK,
    "participant webhook-list": BANK,
    "participant webhook-secret": "1 " + BANK,
    "participant webhook-replay": "1 0 " + BANK,
    "participant webhook-delete": "1 " + BANK,
    "participant journal": "",
    "participant journal-detach": "--out {out} --before 2026-01-01",
    "participant journal-attach": "{missing}",
    "participant init": "--name Alfa --out {out}",
    "participant apply": "--name Alfa --invitation code",
    "participant serve": "",
    "participant token": "--role orders --subject dora",
    "participant fsck": "",
    "participant proof": "2026-11-27-01",
    "participant position": "2026-11-27-01 BETAFRPP EUR --out {out}",
    "participant client add": "dora --role orders --create {out}",
    "participant client list": "",
    "participant client revoke": "dora --reason gone",
    "agent init": "--out {out}",
    "agent serve": "",
    "agent token": "",
    "agent open-account": "ALFADEFF EUR",
    "agent fund": "ALFADEFF EUR 1.00",
    "agent fsck": "",
    "login": "--url {url} --bic ALFADEFF --key {key}",
    "token": "nobody",
    "console": "--log {out} " + COORDINATOR,
    "decide key": "{out}",
    "decide list": COORDINATOR,
    "decide propose": "member.suspend ALFADEFF --reason gone " + COORDINATOR,
    "decide calendar": COORDINATOR,
    "decide confirm": "1 --reason gone " + COORDINATOR,
    "decide reject": "1 --reason gone " + COORDINATOR,
    "decide withdraw": "1 " + COORDINATOR,
    "export": "2026-11-27-01 --out {out} " + COORDINATOR,
    "verify": "{missing} --trust {missing}",
    "net": "{debts} --output {out}",
    "gridlock": "{missing} --output {out}",
    "clear": "{debts} --output {out}",
    "reconcile": "{missing} {missing} --html {out}",
    "statements read": "{missing}",
    "advise": "{missing} --output {out}",
    "demo": "--keep {out}",
}
WRITES = sorted(name for name, line in COMMANDS.items() if "{out}" in line)
MAKES_DIRECTORIES = {"coordinator init", "participant init", "agent init", "decide key"}
"""With the keys that they make; every other command leaves a directory that was mistyped as it is."""
WAITS = {"coordinator serve", "participant serve", "agent serve"}
"""For its database, and says so again and again (`test_start_up`)."""
TAKES_ITS_OWN = {"demo"}
"""Runs databases of its own."""


def test_every_command_is_here() -> None:
    assert {f"concordat {name}" for name in COMMANDS} == {name for name, _ in every_command()}


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    MemberIdentity.made("ALFADEFF", tmp_path / "node" / "keys")
    return {
        "CONCORDAT_BIC": "ALFADEFF",
        "CONCORDAT_DATA_DIR": str(tmp_path / "node"),
        "CONCORDAT_PORT": str(free_port()),
        "CONCORDAT_URL": (url := f"http://127.0.0.1:{free_port()}"),
        "CONCORDAT_COORDINATOR_URL": url,
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }


def run(name: str, settings: dict[str, str], tmp_path: Path, *, out: str, key: str) -> Said:
    (tmp_path / "payments.csv").write_text("")
    (tmp_path / "debts.csv").write_text("debtor,creditor,currency,amount\nA,B,EUR,1.00\n")
    line = COMMANDS[name].format(
        url=settings["CONCORDAT_URL"],
        missing=tmp_path / "missing",
        payments=tmp_path / "payments.csv",
        debts=tmp_path / "debts.csv",
        out=out,
        key=key,
    )
    return concordat(f"{name} {line}", settings)


def refused(said: Said) -> None:
    assert said.code in (1, 2), said
    assert said.err.strip(), said
    assert "Traceback" not in said.err
    assert len(said.err.splitlines()) <= 5, said.err


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - TAKES_ITS_OWN))
def test_a_missing_directory(name: str, settings: dict[str, str], tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    said = run(
        name, {**settings, "CONCORDAT_DATA_DIR": str(gone / "node")}, tmp_path, out=f"{gone}/out", key=f"{gone}/key.pem"
    )
    if name in MAKES_DIRECTORIES:
        assert said.code in (0, 2), said
    else:
        refused(said)
        assert not gone.exists()


@pytest.mark.parametrize("name", WRITES)
def test_a_path_that_cant_be_written(name: str, settings: dict[str, str], tmp_path: Path) -> None:
    key = tmp_path / "node" / "keys" / "auth.pem"
    said = run(name, settings, tmp_path, out="/proc/concordat/out", key=str(key))
    refused(said)
    assert said.code == 2


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - WAITS - TAKES_ITS_OWN))
def test_a_database_that_is_away(name: str, settings: dict[str, str], tmp_path: Path) -> None:
    away = f"postgresql://dora:secret@127.0.0.1:{free_port()}/books"
    said = run(
        name,
        {**settings, "CONCORDAT_DATABASE_URL": away},
        tmp_path,
        out=str(tmp_path),
        key=str(tmp_path / "missing.pem"),
    )
    assert "dora:secret" not in said.err
    if said.code:
        refused(said)


@pytest.mark.parametrize("command", ["journal", "fsck", "proof 2026-11-27-01", "position 2026-11-27-01 BETAFRPP EUR"])
def test_a_directory_that_holds_no_books_of_a_bank_is_left_as_it_is(
    command: str, settings: dict[str, str], tmp_path: Path
) -> None:
    refused(said := concordat(f"participant {command}", settings))
    assert "holds no database yet" in said.err
    assert {path.name for path in (tmp_path / "node").iterdir()} == {"keys"}


def test_another_institutions_directory_is_told_by_its_database(settings: dict[str, str], tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "node" / "postgres")
    server.start()
    try:
        server.open_for("coordinator")
        refused(said := concordat("participant journal", settings))
        assert "holds no database participant: is this another institution's data directory?" in said.err
    finally:
        server.stop()


def test_an_id_that_is_none_is_said_to_be(settings: dict[str, str], tmp_path: Path) -> None:
    key = tmp_path / "node" / "keys" / "auth.pem"
    said = concordat(f"participant payment 123 {BANK}".format(url=settings["CONCORDAT_URL"], key=key), settings)
    assert (said.code, "'123' is no payment's id, which is a UUID" in said.err) == (2, True)
