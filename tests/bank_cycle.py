"""A bank's side of a cycle on a real ledger, with a scripted coordinator: its follower's parts without the node."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import asyncpg
from bank_ledgers import Bank
from scripted_coordinator import BIC, ScriptedCoordinator
from support import confirmation

from compliance.crypto import dsse
from compliance.crypto.keys import SigningKey
from compliance.statements import DATED_TRUST_LIST_TYPE, Member, TrustKey, TrustList
from compliance.trust import Anchor
from gateway.federation.http.client import FederationClient
from gateway.federation.membership.trust import TrustStore
from gateway.federation.messages.attestation import ReceiverCut, SenderCuts
from gateway.federation.storage.postgres import dsn
from gateway.federation.storage.sessions import APP_ROLE
from participants.cycle import reads
from participants.cycle.attesting import Attesting
from participants.cycle.commands import FixCut, RecordSignedCut
from participants.cycle.instructions import Instructions
from participants.cycle.results import Results
from participants.cycle.value_dates import AgreedDays
from participants.ledger.writer import Ledger
from participants.payments.outbound import Outbound
from participants.payments.screening import Screener

SECONDS_MAX = 30


class Counting(asyncpg.Connection):  # type: ignore[misc]
    """A connection that counts what it asks the server for, by what for."""

    asked: ClassVar[Counter[str]] = Counter()

    async def _execute(self, query: str, *args: Any, **more: Any) -> Any:
        self.asked[query] += 1
        return await super()._execute(query, *args, **more)

    async def _executemany(self, query: str, args: Sequence[Any], *more: Any) -> Any:
        rows = list(args)
        self.asked[query] += len(rows)
        return await super()._executemany(query, rows, *more)

    async def execute(self, query: str, *args: Any, **more: Any) -> str:
        if not args and not query.startswith(
            "SELECT pg_advisory_unlock_all"
        ):  # as the pool does with what it gets back
            self.asked[query] += 1
        return cast(str, await super().execute(query, *args, **more))

    async def copy_records_to_table(self, table_name: str, **more: Any) -> str:
        self.asked[f"COPY {table_name}"] += 1
        return cast(str, await super().copy_records_to_table(table_name, **more))


async def counting(url: str) -> asyncpg.Connection:
    """Connect as a ledger's writer does, counting."""
    return await asyncpg.connect(dsn(url), connection_class=Counting, server_settings={"role": APP_ROLE})


@dataclass
class Side:
    """What a bank does in one cycle, step by step."""

    bank: Bank
    cycle: str
    others: Sequence[str]
    coordinator: ScriptedCoordinator
    pool: asyncpg.Pool
    attesting: Attesting
    instructions: Instructions

    async def cut(self, currencies: Sequence[str], accepted: int) -> None:
        """Fix and sign the cut; the others cut each lane of this bank at `accepted`."""
        receiving = await reads.receiving_lanes(self.pool, self.bank.bic)
        cut = await self.bank.ledger.submit(FixCut(self.cycle, currencies, receiving))
        await self.bank.ledger.submit(RecordSignedCut(self.cycle, dsse.sign(cut, self.bank.key)))
        self.coordinator.cuts = SenderCuts(
            cycle=self.cycle,
            complete=True,
            lanes=tuple(
                ReceiverCut(receiver=other, currency=currency, last_sequence=accepted)
                for other in self.others
                for currency in currencies
            ),
            delivered=tuple(self.others),
        )

    async def attest(self, attestations: int = 1) -> None:
        """Attest until so many attestations were handed in."""
        self.attesting.begin(self.cycle)
        await self.handed_in(attestations)

    async def handed_in(self, attestations: int) -> None:
        """Wait until so many attestations were handed in."""
        await until(lambda: len(self.coordinator.attestations) >= attestations)


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that the bank does in the background."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < SECONDS_MAX
        await asyncio.sleep(0.01)


@asynccontextmanager
async def wide_ledger(url: str, bic: str, *, key: SigningKey | None = None) -> AsyncIterator[Bank]:
    """Open a bank's ledger whose writer counts its statements."""
    ledger = Ledger(lambda: counting(url), bank=bic, agent="AGNTBEB1")
    await ledger.start()
    connection = await asyncpg.connect(dsn(url))
    try:
        yield Bank(bic, url, ledger, connection, key or SigningKey.generate())
    finally:
        await ledger.stop()
        await connection.close()


@asynccontextmanager
async def side(
    bank: Bank, cycle: str, others: Sequence[str], *, coordinator: ScriptedCoordinator | None = None
) -> AsyncIterator[Side]:
    """Run a bank's side of a cycle; with a `coordinator` of before it goes on where it was killed."""
    coordinator = coordinator or ScriptedCoordinator(cycle, bank.bic, bank.key.verifying_key)
    trust = _trust(coordinator)
    pool = await asyncpg.create_pool(
        dsn(bank.url), min_size=2, max_size=4, connection_class=Counting, server_settings={"role": APP_ROLE}
    )
    others_pool = await asyncpg.create_pool(dsn(bank.url), min_size=1, max_size=2)
    nobody = cast(FederationClient, None)  # No other bank is asked: the trust list names none.

    async def agrees(_: str) -> None:
        return None

    outbound = Outbound(
        bank=bank.bic,
        ledger=bank.ledger,
        pool=others_pool,
        trust=trust,
        client=nobody,
        signer=bank.key,
        agree_with=agrees,
    )
    outbound.start()
    screener = Screener(pool, bank.bic)
    await screener.start()
    results = Results(bank=bank.bic, coordinator=coordinator, ledger=bank.ledger, pool=pool, trust=trust, peers=nobody)
    attesting = Attesting(
        bank=bank.bic,
        coordinator=coordinator,
        ledger=bank.ledger,
        pool=pool,
        signer=bank.key,
        outbound=outbound,
        screener=screener,
    )
    instructions = Instructions(
        bank=bank.bic,
        coordinator=coordinator,
        ledger=bank.ledger,
        pool=pool,
        trust=trust,
        signer=bank.key,
        results=results,
        days=AgreedDays(coordinator, None),
        settled=lambda: None,
    )
    try:
        yield Side(bank, cycle, others, coordinator, pool, attesting, instructions)
    finally:
        await attesting.stop()
        await outbound.stop()
        await others_pool.close()
        await pool.close()


def _trust(coordinator: ScriptedCoordinator) -> TrustStore:
    key = coordinator.signs
    signs = TrustKey(kid=key.kid, alg="Ed25519", x=key.x, use="sign", status="active")
    house = Member(bic=BIC, name="Clearing house", kind="coordinator", status="active", url="http://x", keys=(signs,))
    store = TrustStore(Anchor.of(BIC, key.verifying_key))
    listed = dsse.sign(
        TrustList(version=1, issuer="http://x", members=(house,)), key, payload_type=DATED_TRUST_LIST_TYPE
    )
    assert store.update(listed)
    store.confirm(confirmation(listed, key))
    return store
