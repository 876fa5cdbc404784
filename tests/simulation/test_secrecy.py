"""What the coordinator and the agent know after payments went through the federation: totals of pairs, and no payment.

Run together with the other simulations this looks at all that they left behind, restarts and errors included.
"""

from __future__ import annotations

import httpx
import pytest
from invented import secrets_of
from traces import archive_text, database_text, found_in
from world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")

CYCLE = 39


async def test_no_payment_leaves_its_two_banks(world: World) -> None:
    federation = world.federation
    cycle = await federation.alice.open_cycle()
    await world.run_cycle(CYCLE)
    rows = [row for part in federation.plan.cycles for row in part]
    secrets = secrets_of(rows)

    # The search finds what is there: a bank knows all of its own payments.
    one = federation.plan.cycles[CYCLE][0]
    own = found_in(await database_text(world.database(one.debtor_bank)), secrets_of([one]))
    assert set(own.values()) == {"payment id", "amount", "account", "name", "remittance"}

    for place in ("coordinator", "agent"):
        node = world.institution(place).node
        assert found_in(await database_text(world.database(place)), secrets) == {}, place
        assert found_in(node.log.read_text(), secrets) == {}, place
        async with httpx.AsyncClient(trust_env=False) as http:
            assert found_in((await http.get(f"{node.private_url}/metrics")).text, secrets) == {}, place
    assert found_in(archive_text(await federation.carol.export(cycle)), secrets) == {}


async def test_a_third_bank_learns_nothing_and_logs_name_nobody(world: World) -> None:
    rows = [row for part in world.federation.plan.cycles for row in part]
    for bank, institution in world.federation.banks.items():
        others = [row for row in rows if bank not in (row.debtor_bank, row.creditor_bank)]
        # Customers are known to each bank that they have business with; payments and amounts only to their two.
        foreign = {
            secret: what
            for secret, what in secrets_of(others).items()
            if what in ("payment id", "amount", "remittance")
        }
        assert found_in(await database_text(world.database(bank)), foreign) == {}, bank
        secrets = {secret: what for secret, what in secrets_of(rows).items() if what != "payment id"}
        assert found_in(institution.node.log.read_text(), secrets) == {}, bank
