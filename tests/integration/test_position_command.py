"""`concordat participant position`: whose database it reads, what it writes over, and what it says isn't there."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bank_ledgers import ALFA, BETA, Bank, bank, payment, settle
from commands import Said, concordat
from support import free_port

from compliance.crypto import dsse
from compliance.crypto.keys import SigningKey
from compliance.position_evidence import FORMAT, PositionEvidence
from compliance.statements import DATED_TRUST_LIST_TYPE, TrustList
from compliance.trust import Anchor
from gateway.federation.http.client import MemberIdentity
from gateway.federation.storage.owner import require_owner
from participants.cycle import attestations, reads

CYCLE = "2026-11-27-01"


@dataclass
class Desk:
    """Where a bank's commands are given, once two banks took part in a cycle, and the same of the other bank."""

    directory: Path
    alfa: Bank
    beta: Bank

    @property
    def settings(self) -> dict[str, str]:
        return {
            "CONCORDAT_BIC": ALFA,
            "CONCORDAT_DATA_DIR": str(self.directory),
            "CONCORDAT_DATABASE_URL": self.alfa.url,
        }

    @property
    def trust_list(self) -> Path:
        return self.directory / "trust-list.json"

    async def run(self, arguments: str, **settings: str) -> Said:
        return await asyncio.to_thread(concordat, f"participant {arguments}", {**self.settings, **settings})

    async def evidence(self, of: Bank) -> Any:
        attested = await reads.attested(of.connection, CYCLE)
        return attestations.proven(attested, ("EUR", *sorted((ALFA, BETA))))

    async def both(self) -> bytes:
        mine, theirs = await self.evidence(self.alfa), await self.evidence(self.beta)
        trust_list = msgspec.json.decode(self.trust_list.read_bytes(), type=dsse.Envelope)
        return msgspec.json.encode(
            PositionEvidence(format=FORMAT, proven=mine, counterparty=theirs, trust_list=trust_list)
        )


@pytest.fixture
async def desk(new_database: Any, tmp_path: Path) -> AsyncIterator[Desk]:
    urls = [await new_database("participants.ledger") for _ in range(2)]
    async with bank(urls[0], ALFA) as alfa, bank(urls[1], BETA) as beta:
        await alfa.open("a-1", balance=1_000)
        await beta.open("b-1")
        await alfa.order(payment(7))
        await alfa.deliver(beta)
        await settle(CYCLE, alfa, beta)
        for one in (alfa, beta):
            await require_owner(one.url, one.bic, claim=True)
        MemberIdentity.made(ALFA, tmp_path / "node" / "keys")
        found = Desk(tmp_path / "node", alfa, beta)
        key = SigningKey.generate()
        Anchor.of("CNCDXXC0", key.verifying_key).write(tmp_path / "anchor.json")
        listed = TrustList(version=1, issuer="https://house.example", members=())
        found.trust_list.write_bytes(msgspec.json.encode(dsse.sign(listed, key, payload_type=DATED_TRUST_LIST_TYPE)))
        yield found


@pytest.mark.parametrize(
    "command",
    [
        f"position {CYCLE} {BETA} EUR --out {{out}}",
        f"proof {CYCLE}",
        "journal",
        "journal-detach --out {directory} --before 2026-01-01",
        "journal-attach {anchor}",
        "fsck",
        "client list",
    ],
)
async def test_no_command_works_on_another_banks_database(desk: Desk, tmp_path: Path, command: str) -> None:
    out = tmp_path / "pair.json"
    filled = command.format(out=out, directory=tmp_path, anchor=tmp_path / "anchor.json")
    said = await desk.run(filled, CONCORDAT_DATABASE_URL=desk.beta.url)
    assert (said.code, said.out) == (2, "")
    assert (
        said.err == f"concordat: this database belongs to {BETA}, and CONCORDAT_BIC says {ALFA}: mend one of the two\n"
    )
    assert not out.exists()


async def test_it_says_that_the_other_signature_is_missing_and_why(desk: Desk, tmp_path: Path) -> None:
    out, nobody = tmp_path / "pair.json", f"http://127.0.0.1:{free_port()}"
    reachable = {"CONCORDAT_COORDINATOR_URL": nobody, "CONCORDAT_ANCHOR": str(tmp_path / "anchor.json")}
    for settings, why in (
        ({}, "CONCORDAT_COORDINATOR_URL isn't set"),
        ({"CONCORDAT_COORDINATOR_URL": nobody}, "CONCORDAT_ANCHOR isn't set"),
        (reachable, f"{nobody}: ConnectError: All connection attempts failed, asked "),
    ):
        said = await desk.run(f"position {CYCLE} {BETA.lower()}xxx EUR --out {out}", **settings)
        assert said.code == 3, said
        assert said.err.startswith(f"without what {BETA} signed: {why}")
        assert said.err.count("\n") == 1
        assert said.out == f"{out}: {out.stat().st_size:,} bytes, signed by {ALFA}\n"
        assert stat.S_IMODE(out.stat().st_mode) == 0o600


async def test_what_both_signed_is_never_replaced_by_what_one_did(desk: Desk, tmp_path: Path) -> None:
    out = tmp_path / "pair.json"
    out.write_bytes(both := await desk.both())
    said = await desk.run(f"position {CYCLE} {BETA} EUR --out {out}")
    assert (said.code, said.out, out.read_bytes()) == (3, "", both)
    assert "is left as it is" in said.err


@pytest.mark.parametrize(
    ("asked", "code", "says"),
    [
        (f"26-1 {BETA} EUR", 2, "'26-1' is no cycle's id"),
        (f"{CYCLE} BETA EUR", 2, "'BETA' is no BIC"),
        (f"{CYCLE} {ALFA.lower()}XXX EUR", 2, f"{ALFA} is this bank itself"),
        (f"{CYCLE} {BETA} euro", 2, "'euro' isn't three capital letters"),
        (f"2026-11-27-02 {BETA} EUR", 1, f"{ALFA} has cut nothing off for a cycle 2026-11-27-02\n"),
        (f"{CYCLE} GAMADEFF EUR", 1, f"{ALFA} attested nothing of GAMADEFF in EUR in cycle {CYCLE}\n"),
    ],
)
async def test_each_thing_that_is_wrong_is_named(desk: Desk, asked: str, code: int, says: str) -> None:
    said = await desk.run(f"position {asked}")
    assert said.code == code, said
    assert says in said.err


async def test_a_trust_list_that_is_missing_or_none_is_named(desk: Desk) -> None:
    for damage in (lambda: desk.trust_list.write_text("{}"), desk.trust_list.unlink):
        damage()
        said = await desk.run(f"position {CYCLE} {BETA} EUR")
        assert (said.code, said.err.count("\n")) == (2, 1)
        assert said.err.startswith(f"concordat: {desk.trust_list} is")
