"""Exports of cycles whose banks signed each statement by itself: in the form of then."""

from __future__ import annotations

import asyncpg
import msgspec
from clearing_house import ALFA, BETA, GAMA, House, NewHouse, anchor_of
from test_exports_of_idle_pairs import count, settle, unattended

from compliance.crypto import dsse
from compliance.cycle.positions import Position, statement_of
from compliance.export import archive
from compliance.export.manifest import Manifest
from compliance.export.record import FORMAT, FORMAT_3, MANIFEST, SettledStatement
from compliance.statements import PositionStatement, ScreeningStatement
from compliance.verifier.verify import verify_bytes
from gateway.coordinator.cycles.tables.attestations import POSITION
from gateway.federation.storage.postgres import dsn


async def put_into_the_form_of_before(house: House, cycle: str) -> None:
    """Write what banks attested in a cycle as releases before did: each statement in an envelope of its own."""
    owner = await asyncpg.connect(dsn(str(house.engine.url.render_as_string(hide_password=False))))
    try:
        await owner.execute("SET session_replication_role = replica")
        rows = await owner.fetch(f"SELECT {POSITION} FROM positions p WHERE p.cycle = $1", cycle)
        for row in rows:
            p, sha256 = msgspec.json.decode(row[0], type=tuple[Position, str])
            for bank in (p.low, p.high):
                envelope = dsse.sign(statement_of(cycle, p), house.identity(bank).sign)
                await owner.execute(
                    "INSERT INTO statements (cycle, received_at, participant, currency, pair_low, pair_high, revision,"
                    " sha256, envelope, forth_minor, back_minor)"
                    " SELECT $1, now(), $2, $3, $4, $5, $6, $7, $8, $9::text::numeric, $10::text::numeric",
                    *(cycle, bank, p.currency, p.low, p.high, p.revision, sha256),
                    *(msgspec.json.encode(envelope).decode(), p.forth_minor, p.back_minor),
                )
        screenings = await owner.fetch("SELECT id, document::text FROM screenings WHERE cycle = $1", cycle)
        for number, text in screenings:
            document = msgspec.json.decode(text, type=ScreeningStatement)
            envelope = dsse.sign(document, house.identity(document.participant).sign)
            await owner.execute(
                "UPDATE screenings SET envelope = $2, document = NULL, attestation = NULL WHERE id = $1",
                *(number, msgspec.json.encode(envelope).decode()),
            )
        await owner.execute("DELETE FROM positions WHERE cycle = $1", cycle)
        await owner.execute("DELETE FROM attestations WHERE cycle = $1", cycle)
    finally:
        await owner.close()


def format_of(files: dict[str, bytes]) -> str:
    return msgspec.json.decode(files[MANIFEST], type=Manifest).format


async def test_a_cycle_of_before_is_exported_in_its_format_and_proves_what_was_settled(new_house: NewHouse) -> None:
    house = await new_house(rules=unattended())
    service = house.service()
    house.pay(ALFA, BETA, "EUR", 100)
    house.pay(BETA, GAMA, "EUR", 200)
    first = await settle(house, service, {})
    await put_into_the_form_of_before(house, first)
    before = count(house)
    house.pay(BETA, GAMA, "EUR", 300)
    second = await settle(house, service, before, mistaken=BETA)

    files = {}
    for cycle in (first, second):
        data = await service.export(cycle)
        assert verify_bytes(data, anchor_of(house)).state == "final"
        files[cycle] = archive.unpack(data)
    assert [format_of(of) for of in files.values()] == [FORMAT_3, FORMAT]
    assert len(files[first]["statements.jsonl"].splitlines()) == 4

    # A pair with nothing new in the second cycle was stated in the first one, signed alone.
    settled = [msgspec.json.decode(line, type=SettledStatement) for line in files[second]["settled.jsonl"].splitlines()]
    assert len(settled) == 2
    for of in settled:
        assert of.alone is not None
        statement = msgspec.json.decode(of.alone.payload_bytes(), type=PositionStatement)
        assert (statement.cycle, statement.pair) == (first, (ALFA, BETA))
