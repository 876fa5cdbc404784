"""`concordat login`, `token`, `participant client`, and the commands that go by a profile, as processes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from importing import HEADER, row
from running_banks import Town, order
from running_coordinator import ALPHA, BRAVO, COORDINATOR
from support import uuid7

from compliance.crypto.keys import SigningKey
from participants.access import clients
from participants.roles import Role

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Desk:
    """Somebody's own machine, with nothing of a node on it."""

    home: Path

    async def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Run a command; return its exit code, what it printed, and what it said of its work."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CONCORDAT_")}
        program = shutil.which("concordat", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        assert program is not None
        process = await asyncio.create_subprocess_exec(
            program, *arguments, cwd=self.home, env={**inherited, "XDG_CONFIG_HOME": str(self.home), **environment},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, said = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), said.decode()

    async def key(self, name: str) -> SigningKey:
        code, out, said = await self.run("decide", "key", f"{name}.pem")
        assert code == 0, said
        assert "x=" in out
        return SigningKey.load(self.home / f"{name}.pem")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def registered(town: Town, name: str, key: SigningKey, *roles: Role) -> None:
    async with town.alpha.node.pool.acquire() as connection:
        await clients.register(connection, name, key.verifying_key, roles, by="tess")


async def test_a_profile_prints_tokens_for_curl(town: Town, desk: Desk) -> None:
    at = ("--url", town.alpha.settings.url, "--bic", ALPHA, "--key", "mia.pem")
    key = await desk.key("mia")
    code, _, said = await desk.run("login", "mia", *at)
    assert (code, "invalid_client" in said) == (1, True), said
    assert not (desk.home / "concordat").exists()
    await registered(town, "mia", key, Role.ORDERS, Role.ACCOUNTS)
    assert (await desk.run("login", "mia", *at))[0] == 0
    kept = desk.home / "concordat" / "profiles" / "mia.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert "eyJ" not in kept.read_text()
    first, second = [(await desk.run("token", "mia", "--role", "accounts"))[1].strip() for _ in range(2)]
    assert first != second
    assert (await town.alpha.send("GET", "/accounts", token=second)).status_code == 200
    code, _, said = await desk.run("token", "mia")
    assert (code, "which one role" in said) == (1, True), said
    code, out, _ = await desk.run("token", "--role", "orders", CONCORDAT_PROFILE="mia")
    assert (await town.alpha.send("GET", "/payments", token=out.strip())).status_code == 200


async def test_a_profile_that_is_none_is_one_line(desk: Desk) -> None:
    for arguments in (("token", "nobody"), ("token", "../escape"), ("decide", "list")):
        code, out, said = await desk.run(*arguments, CONCORDAT_PROFILE="nobody")
        assert (code, out, said.count("\n")) == (2, "", 1), said
    (desk.home / "concordat" / "profiles").mkdir(parents=True)
    (desk.home / "concordat" / "profiles" / "default.json").write_text("{")
    code, _, said = await desk.run("token")
    assert (code, "not a profile" in said) == (2, True), said


async def test_a_file_is_imported_by_a_key_of_ones_own(town: Town, desk: Desk) -> None:
    """Nothing of the node is on that machine; the journal has the client's name as who ordered."""
    await town.alpha.open("a-import", balance=1_000)
    await registered(town, "erp", await desk.key("erp"), Role.ORDERS)
    said_of_it = {
        "debtor_bank": ALPHA, "debtor_account": "a-import", "debtor_name": "Ada", "creditor_bank": BRAVO,
        "creditor_account": "b-1", "creditor_name": "Bruno", "amount": "2.50", "currency": "EUR",
    }  # fmt: skip
    (desk.home / "pay.jsonl").write_text(json.dumps(said_of_it) + "\n")
    code, _, said = await desk.run("participant", "import", "pay.jsonl", CONCORDAT_URL="http://127.0.0.1:9")
    assert code == 2, said
    at = ("--url", town.alpha.settings.url, "--bic", ALPHA, "--key", "erp.pem", "--client", "erp")
    assert (await desk.run("login", *at))[0] == 0
    code, out, said = await desk.run("participant", "import", "pay.jsonl")
    assert (code, "1 payments taken" in out) == (0, True), (out, said)
    orders = "SELECT data ->> 'actor' FROM event WHERE data ->> 'debtor_account' = 'a-import' ORDER BY sequence LIMIT 1"
    assert await town.alpha.node.pool.fetchval(orders) == "erp"


async def test_an_operator_goes_by_a_profile(town: Town, desk: Desk) -> None:
    key = await desk.key("ines")
    await town.coordinator.registry.add_client("ines", "operator", key.x, by="test", reason="test")
    at = ("--url", town.coordinator.url, "--bic", COORDINATOR, "--key", "ines.pem")
    assert (await desk.run("login", "ines", *at))[0] == 0
    assert (await desk.run("decide", "list", CONCORDAT_PROFILE="ines"))[0] == 0
    code, _, said = await desk.run("decide", "list", CONCORDAT_PROFILE="ines", CONCORDAT_CLIENT="otto")
    assert (code, "invalid_client" in said) == (1, True), said


async def test_every_command_that_asks_the_bank_goes_by_a_profile(town: Town, desk: Desk) -> None:
    """An auditor's `read` does for what only reads, however many roles he has; and each error is named in words."""
    await registered(town, "rhea", await desk.key("rhea"), Role.READ, Role.SCREENING)
    at = ("--url", town.alpha.settings.url, "--bic", ALPHA, "--key", "rhea.pem")
    assert (await desk.run("login", "rhea", *at))[0] == 0
    id_ = uuid7()
    assert (await town.alpha.send("POST", "/payments", order(1, id=id_))).status_code == 201
    await town.alpha.until(id_, "posted")
    (desk.home / "pay.csv").write_text(f"{HEADER}\n{row('a-1', '1.00', 'none')}\n")
    for arguments, code, told in (
        (("payments",), 0, id_),
        (("payment", id_), 0, "payment.posted"),
        (("file-status", "pay.csv"), 3, "no row of it has reached"),
        (("webhook-list",), 0, "[]"),
        (("file-cancel", "pay.csv"), 1, "invalid_scope"),
        (("import", "pay.csv"), 1, "invalid_scope"),
        (("webhook-delete", id_), 1, "invalid_scope"),
        (("payments", "--status", "nonsense", "--direction", "sideways"), 2, "\n  parameter status: "),
        (("payments", "--status", "nonsense", "--direction", "sideways"), 2, "\n  parameter direction: "),
        (("payments", "--cycle", "foo"), 2, "\n  parameter cycle: "),
    ):
        got, out, said = await desk.run("participant", *arguments, CONCORDAT_PROFILE="rhea")
        assert (got, told in out + said) == (code, True), (arguments, got, out, said)
    await registered(town, "olga", await desk.key("olga"), Role.ORDERS)
    who = ("--url", town.alpha.settings.url, "--bank", ALPHA, "--client", "olga", "--key", "olga.pem")
    assert id_ in (await desk.run("participant", "payments", *who))[1]


async def test_who_asks_is_said_to_be_missing(town: Town, desk: Desk) -> None:
    (desk.home / "pay.csv").write_text(f"{HEADER}\n{row('a-1', '1.00', 'none')}\n")
    where = ("--url", town.alpha.settings.url, "--bank", ALPHA, "--data-dir", str(town.alpha.settings.data_dir))
    for arguments in (("payments",), ("file-status", "pay.csv"), ("import", "pay.csv"), ("webhook-list",)):
        code, _, said = await desk.run("participant", *arguments, *where)
        assert (code, "who asks?" in said, "--subject" in said) == (2, True, True), said
