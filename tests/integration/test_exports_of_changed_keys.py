"""Exports of cycles in which banks changed their keys: what each key signed while it counted stays verified."""

from __future__ import annotations

import msgspec
from clearing_house import ALFA, BANKS, BETA, GAMA, House, NewHouse, anchor_of
from test_exports_of_idle_pairs import count, settle, unattended

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.cycle.states import State
from compliance.event_log import LoggedEvent
from compliance.export import archive
from compliance.statements import OperatorRegister
from compliance.verifier.verify import verify_bytes
from gateway.coordinator.cycles.service import CycleService
from gateway.federation.membership.documents import KEY_CHANGE_TYPE, KeyChange


async def change_key(house: House, bank: str) -> None:
    """Put a new `sign` key in the place of a bank's."""
    old = house.identity(bank).sign
    for path in (house.directory / bank).glob("sign*"):
        path.unlink()
    new = house.identity(bank).sign
    assert new.kid != old.kid
    change = KeyChange(member=bank, use="sign", x=new.verifying_key.x, replaces=old.kid)
    await house.registry.change_key(bank, dsse.sign(change, old, new, payload_type=KEY_CHANGE_TYPE), caller=bank)


async def acknowledge(house: House, service: CycleService, bank: str) -> None:
    for instruction in await service.delivery.pending(bank):
        await service.delivery.acknowledge(bank, house.receipt(bank, instruction))


async def verified(house: House, service: CycleService, cycle: str) -> dict[str, bytes]:
    data = await service.export(cycle)
    assert verify_bytes(data, anchor_of(house)).state == "final"
    return archive.unpack(data)


async def test_keys_that_change_between_any_two_steps(new_house: NewHouse) -> None:
    house = await new_house(rules=unattended())
    service = house.service()
    house.pay(ALFA, BETA, "EUR", 100)
    house.pay(BETA, GAMA, "EUR", 200)
    opened = (await service.open_on_demand(None, by="alice")).id
    await change_key(house, ALFA)
    await service.cut_off(opened)
    await service.cuts.submit(ALFA, opened, house.cut(opened, ALFA))
    for bank in (ALFA, BETA):  # One that delivered its cut, and one that didn't.
        await change_key(house, bank)
    for bank in BANKS[1:]:
        await service.cuts.submit(bank, opened, house.cut(opened, bank))
    await service.advance(opened)
    await service.attestation.submit_attestation(ALFA, opened, house.submission(opened, ALFA))
    for bank in (ALFA, BETA):
        await change_key(house, bank)
    for bank in BANKS[1:]:
        await service.attestation.submit_attestation(bank, opened, house.submission(opened, bank))
    assert await service.advance(opened) is State.FINAL
    assert len((await verified(house, service, opened))["trust-lists.jsonl"].splitlines()) == 6

    # Acknowledged after the last event: by a key that the record knows, and by one that it doesn't.
    await acknowledge(house, service, BETA)
    await change_key(house, GAMA)
    await acknowledge(house, service, GAMA)
    receipts = (await verified(house, service, opened))["receipts.jsonl"].splitlines()
    assert len(receipts) == 1


async def test_a_pair_that_settled_before_its_banks_changed_their_keys(new_house: NewHouse) -> None:
    house = await new_house(rules=unattended())
    service = house.service()
    house.pay(ALFA, BETA, "EUR", 100)
    await settle(house, service, {})
    before = count(house)
    await change_key(house, ALFA)
    house.pay(BETA, GAMA, "EUR", 300)
    second = await settle(house, service, before, mistaken=BETA)
    assert (await verified(house, service, second))["settled.jsonl"]


async def test_the_opening_names_what_is_in_force(new_house: NewHouse) -> None:
    """Trust list and register of operators by their digests; the export holds the registers from the very first on."""
    house = await new_house(rules=unattended())
    service = house.service()
    await house.let_in("dora")
    house.pay(ALFA, BETA, "EUR", 100)
    files = await verified(house, service, await settle(house, service, {}))
    opening = msgspec.json.decode(files["events.jsonl"].splitlines()[0], type=LoggedEvent)
    trust_list = msgspec.json.decode(files["trust-lists.jsonl"].splitlines()[0], type=Envelope)
    registers = [msgspec.json.decode(line, type=Envelope) for line in files["operators.jsonl"].splitlines()]
    assert opening.data["trust_list"] == canonical.digest(trust_list.payload_bytes())
    assert opening.data["operators"] == canonical.digest(registers[-1].payload_bytes())
    versions = [msgspec.json.decode(one.payload_bytes(), type=OperatorRegister).version for one in registers]
    assert versions == list(range(1, len(versions) + 1))
    assert len(versions) >= 2
