"""A coordinator that lies about a result with its own real key, to running banks that find out."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec.structs import replace
from running_banks import RunningBank
from running_coordinator import AGENT, ALPHA, BRAVO, CARLO
from running_desk import Desk, pay, running_desk, settled, until
from support import Live

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import Signer, SigningKey, unb64url
from compliance.cycle.commitment import Leaf, ProvenLeaf, commit, is_proven
from compliance.cycle.positions import Position
from compliance.cycle.result import instructions
from compliance.statements import (
    CarryReason,
    NettingResult,
    ResultCommitment,
    SettlementFinality,
)
from gateway.federation.http.client import RemoteProblem
from gateway.federation.messages.events import Events
from gateway.federation.messages.results import SharedResult
from gateway.federation.messages.settlement import Funding
from gateway.federation.storage.database import asyncpg_pool
from participants.audit.fsck import fsck
from participants.cycle import reads
from participants.cycle.statements import InstructionReason
from participants.ledger.events import ResultShown
from tests.conftest import NewDatabase
from tests.unit.result_lies import Lie, all_of, with_net, without


@dataclass
class Liar:
    """A layer around a coordinator that answers each bank of another result, all of it signed with its real key.

    Before `begin` it is honest. No bank is told of finality before `final` is set.
    """

    app: ASGIApp
    signer: Signer | None = None
    cycle: str = ""
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    final: asyncio.Event = field(default_factory=asyncio.Event)

    async def begin(
        self,
        desk: Desk,
        cycle: str,
        lies: dict[str, Lie],
        *,
        instructed: dict[str, Lie] | None = None,
        hide: dict[str, Callable[[Leaf], bool]] | None = None,
        withheld: tuple[str, ...] = (),
    ) -> None:
        """Lie of a netted cycle: to each bank by its `lies`, or in its instruction by `instructed`, hiding lines."""
        self.signer = signer = desk.town.coordinator.base.identity.sign
        envelope = await desk.get(f"/cycles/{cycle}/result", Envelope)
        honest = msgspec.json.decode(envelope.payload_bytes(), type=NettingResult)
        positions: dict[str, Position] = {}
        for bank in desk.town.banks.values():
            positions |= await reads.signed_positions(bank.node.pool, cycle)
        for bic, lie in lies.items():
            result = lie(honest)
            sha256 = canonical.digest(canonical.encode(result))
            commitment = commit(dsse.sign(result, signer))
            followed = (instructed or {}).get(bic, lie)(honest)
            hidden = (hide or {}).get(bic, lambda _: False)
            named = instructions(followed, positions.items(), sha256, AGENT)
            self.told[bic] = {
                f"/cycles/{cycle}/proof": {
                    "cycle": cycle,
                    "commitment": dsse.sign(commitment.document, signer),
                    "leaves": [one for one in commitment.shown_to(bic) if not hidden(one.line)],
                },
                f"/cycles/{cycle}/instructions": [dsse.sign(one, signer) for one in named if one.participant == bic],
                "result": sha256,
            }
        for bic in withheld:
            self.told.setdefault(bic, {})[f"/cycles/{cycle}/proof"] = None
        self.cycle = cycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, bank = scope.get("path", ""), _bank(scope)
        if path == f"/cycles/{self.cycle}/finality" and bank:
            await self.final.wait()
        told = self.told.get(bank, {})
        if path in told:
            await _answer(send, told[path])
        elif path == f"/cycles/{self.cycle}/finality" and "result" in told:
            assert self.signer is not None
            finality = SettlementFinality(
                cycle=self.cycle,
                result=told["result"],
                settlement_agent=AGENT,
                agent_reference="LIE",
                settled_at="2026-01-05T12:00:00Z",
            )
            await _answer(send, dsse.sign(finality, self.signer))
        else:
            await self.app(scope, receive, send)


def _bank(scope: Any) -> str:
    """Return which bank calls, if one does."""
    for name, value in scope.get("headers", ()):
        if name == b"authorization":
            claims = json.loads(unb64url(value.decode().split(".")[1]))
            return str(claims["sub"]) if claims.get("role") == "participant" else ""
    return ""


async def _answer(send: Send, document: Any) -> None:
    status = 404 if document is None else 200
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": msgspec.json.encode(document), "more_body": False})


@dataclass
class Trial:
    desk: Desk
    liar: Liar
    nostro: dict[str, int]

    def bank(self, bic: str) -> RunningBank:
        return self.desk.town.banks[bic]

    async def paid(self) -> str:
        """Let each bank pay another, and bring that to where two operators approve it."""
        town = self.desk.town
        for payer, payee, amount in (
            (town.alpha, town.bravo, 500),
            (town.bravo, town.carlo, 300),
            (town.carlo, town.alpha, 100),
        ):
            await pay(payer, payee, amount)
        return await self.desk.netted()

    async def found(self, bic: str, *reasons: InstructionReason) -> None:
        """Wait until a bank disbelieves its instruction for one of these reasons."""

        async def disagreements() -> bool:
            return any(reason in reasons for reason in self.bank(bic).node.follower.instructions.disagreements.values())

        await until(disagreements, True)

    async def evidence(self, bic: str) -> list[ResultShown]:
        return await reads.shown_results(self.bank(bic).node.pool, self.liar.cycle)

    async def contradicted(self, bic: str, by: str) -> ResultShown:
        """Wait until a bank has kept what a counterparty was shown otherwise, and return that."""

        async def kept() -> bool:
            return by in {one.counterparty for one in await self.evidence(bic)}

        await until(kept, True)
        (one,) = (one for one in await self.evidence(bic) if one.counterparty == by)
        return one

    async def posted_nothing(self, *bics: str) -> None:
        for bic in bics:
            assert await self.bank(bic).balance(AGENT, kind="nostro") == self.nostro[bic], bic
            report = await fsck(self.bank(bic).node.database_url, bic)
            # What the agent moved by the lie isn't what the bank was to be moved.
            assert {check.name for check in report.checks if not check.ok} <= {"nostro"}


@pytest.fixture
async def trial(postgres_url: str, new_database: NewDatabase, tmp_path: Path, live: Live) -> AsyncIterator[Trial]:
    liars: list[Liar] = []

    def wrap(app: ASGIApp) -> ASGIApp:
        liars.append(Liar(app))
        return liars[-1]

    async with running_desk(postgres_url, await new_database("gateway.agent"), tmp_path, live, wrap=wrap) as desk:
        funding = Funding(id="f" * 8 + "-0000-4000-8000-000000000000", currency="EUR", amount_minor="1000")
        await desk.at_agent(f"/accounts/{ALPHA}/funding", funding)
        await settled(desk.town.alpha, 1_000)
        nostro = {bic: await bank.balance(AGENT, kind="nostro") for bic, bank in desk.town.banks.items()}
        yield Trial(desk, liars[0], nostro)
        liars[0].final.set()


def is_proof_against_the_coordinator(first: ResultShown, second: ResultShown, keys: dict[str, Any]) -> bool:
    """Tell whether two things that were shown are a lie by themselves: all it takes is the coordinator's key."""
    ours, theirs = (dsse.verify(one.commitment, ResultCommitment, keys) for one in (first, second))
    if (ours.cycle, ours.edition) != (theirs.cycle, theirs.edition):
        return False
    if ours != theirs:
        return True

    def lines(one: ResultShown, of: ResultCommitment) -> dict[Any, ProvenLeaf]:
        return {leaf.line.lane: leaf for leaf in one.leaves if is_proven(leaf, of) and leaf.line.lane}

    mine, other = lines(first, ours), lines(second, theirs)
    return any(mine[lane].leaf != other[lane].leaf for lane in mine.keys() & other.keys())


def house_keys(trial: Trial) -> dict[str, Any]:
    key = trial.desk.town.coordinator.base.identity.sign
    return {key.kid: key.verifying_key}


BRAVO_WITHOUT_ALPHA = all_of(
    without((ALPHA, BRAVO), say=CarryReason.BREAK),
    with_net(BRAVO, receives_minor="0", pays_minor="300", net_minor="-300"),
)


async def test_a_pair_that_is_counted_for_one_bank_only_is_found_by_both(trial: Trial) -> None:
    """ALPHA is told that its pair with BRAVO settles, BRAVO that it doesn't: two results, each right in itself."""
    cycle = await trial.paid()
    await trial.liar.begin(trial.desk, cycle, {BRAVO: BRAVO_WITHOUT_ALPHA})
    await trial.desk.decide(cycle, "approve")
    for bank, other in ((ALPHA, BRAVO), (BRAVO, ALPHA), (CARLO, BRAVO), (BRAVO, CARLO)):
        contradiction = await trial.contradicted(bank, other)
        ours = next(one for one in await trial.evidence(bank) if one.counterparty is None)
        assert ours.reason is None, "by itself it holds"
        assert contradiction.reason == InstructionReason.SHOWN_OTHERWISE
        assert is_proof_against_the_coordinator(ours, contradiction, house_keys(trial))
    trial.liar.final.set()
    for bank in (ALPHA, BRAVO, CARLO):
        await trial.found(bank, InstructionReason.SHOWN_OTHERWISE)
    await trial.posted_nothing(ALPHA, BRAVO, CARLO)


async def test_it_is_found_though_both_banks_are_killed_before_they_compare(trial: Trial) -> None:
    """Each runs only while the other doesn't, and has dealt with the whole cycle when it is killed. Then both run."""
    cycle = await trial.paid()
    await trial.liar.begin(trial.desk, cycle, {BRAVO: BRAVO_WITHOUT_ALPHA})
    trial.liar.final.set()
    for bank in (ALPHA, BRAVO):
        await trial.bank(bank).serving.aclose()
    await trial.desk.decide(cycle, "approve")
    async with AsyncExitStack() as stack:
        alpha = await stack.enter_async_context(killable(trial.bank(ALPHA)))
        bravo = await stack.enter_async_context(killable(trial.bank(BRAVO)))
        final = await number_of(trial, cycle, "cycle.final")
        for bank in (alpha, bravo):
            bank.start()
            await bank.deals_with(final)
            bank.kill()
        for bank, other in ((alpha, BRAVO), (bravo, ALPHA)):
            assert other not in await bank.contradicted_by(cycle), "nobody has compared"
        alpha.start()
        bravo.start()
        for bank, other in ((alpha, BRAVO), (bravo, ALPHA)):

            async def contradicted(bank: KillableBank = bank, other: str = other) -> bool:
                return other in await bank.contradicted_by(cycle)

            await until(contradicted, True)


@dataclass
class KillableBank:
    """A bank's node as a process, in the place of one that was stopped."""

    environment: dict[str, str]
    pool: asyncpg.Pool
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        concordat = Path(sys.executable).with_name("concordat")
        self.process = subprocess.Popen([concordat, "participant", "serve"], env=self.environment)

    def kill(self) -> None:
        """SIGKILL: no clean-up, as in a power cut."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    async def deals_with(self, event: int) -> None:
        """Wait until it won't read an event of the feed again."""

        async def is_past() -> bool:
            return await reads.read_cursor(self.pool) >= event

        await until(is_past, True)

    async def contradicted_by(self, cycle: str) -> set[str | None]:
        return {one.counterparty for one in await reads.shown_results(self.pool, cycle)}


@asynccontextmanager
async def killable(bank: RunningBank) -> AsyncIterator[KillableBank]:
    settings = {"HOST": "127.0.0.1", "PORT": str(bank.settings.port), "URL": bank.settings.url, "LOG_LEVEL": "error"}
    named = {f"CONCORDAT_{name}": value for name, value in settings.items()}
    pool = await asyncpg_pool(bank.node.database_url)
    one = KillableBank({**environment_of(bank), **named}, pool)
    try:
        yield one
    finally:
        one.kill()
        await pool.close()


async def number_of(trial: Trial, cycle: str, kind: str) -> int:
    """Wait until the coordinator's feed tells of a step of a cycle, and return the event's number."""
    numbers: list[int] = []

    async def told() -> bool:
        feed = await trial.desk.get("/events", Events, after=0)
        numbers.extend(event.id for event in feed.events if (event.cycle, event.type) == (cycle, kind))
        return bool(numbers)

    await until(told, True)
    return numbers[0]


async def test_one_result_that_says_two_things_of_a_pair_is_found_by_both(trial: Trial) -> None:
    """Everybody is given the same root, and each bank of the pair the line that was made for it."""
    cycle = await trial.paid()

    def both(result: NettingResult) -> NettingResult:
        return replace(BRAVO_WITHOUT_ALPHA(result), statements=result.statements)

    await trial.liar.begin(
        trial.desk,
        cycle,
        dict.fromkeys((ALPHA, BRAVO, CARLO), both),
        instructed={BRAVO: BRAVO_WITHOUT_ALPHA},
        hide={
            ALPHA: lambda line: line.lane == ("EUR", ALPHA, BRAVO) and line.carried_over is not None,
            BRAVO: lambda line: line.lane == ("EUR", ALPHA, BRAVO) and line.settles is not None,
        },
    )
    await trial.desk.decide(cycle, "approve")
    for bank, other in ((ALPHA, BRAVO), (BRAVO, ALPHA)):
        contradiction = await trial.contradicted(bank, other)
        ours = next(one for one in await trial.evidence(bank) if one.counterparty is None)
        assert ours.commitment == contradiction.commitment, "one root"
        assert is_proof_against_the_coordinator(ours, contradiction, house_keys(trial))
    trial.liar.final.set()
    for bank in (ALPHA, BRAVO):
        await trial.found(bank, InstructionReason.SHOWN_OTHERWISE)
    await trial.posted_nothing(ALPHA, BRAVO)


async def test_who_has_proved_a_result_once_proves_every_one(trial: Trial) -> None:
    """An honest cycle first. Then each bank is lied to about what is its own, or isn't shown or told it at all."""
    first = await trial.paid()
    trial.liar.final.set()
    await trial.desk.decide(first, "approve")
    for bank, net in ((ALPHA, -400), (BRAVO, 200), (CARLO, 200)):
        await settled(trial.bank(bank), trial.nostro[bank] + net)
        (kept,) = await reads.shown_results(trial.bank(bank).node.pool, first)
        assert (kept.counterparty, kept.reason) == (None, None)
        trial.nostro[bank] += net
    await nobody_believes_another_bank(trial, first)
    root = commit(await trial.desk.get(f"/cycles/{first}/result", Envelope)).document.root
    assert await printed_proof(trial.bank(ALPHA), first) == (0, f"{ALPHA}: edition 1, root {root}: believed")

    second = await trial.paid()
    await trial.liar.begin(
        trial.desk,
        second,
        {BRAVO: with_net(BRAVO, net_minor="201"), CARLO: lambda honest: honest},
        instructed={BRAVO: lambda honest: honest},
        withheld=(ALPHA,),
    )
    trial.liar.told[CARLO][f"/cycles/{second}/instructions"] = []
    await trial.desk.decide(second, "approve")
    await trial.found(ALPHA, InstructionReason.RESULT_UNPROVEN)
    await trial.found(BRAVO, InstructionReason.POSITION_DIFFERS)
    await trial.found(CARLO, InstructionReason.NOT_INSTRUCTED)

    async def kept_reasons(bic: str) -> bool:
        return {one.reason for one in await trial.evidence(bic)} >= set(
            trial.bank(bic).node.follower.instructions.disagreements.values()
        )

    for bank in (BRAVO, CARLO):
        await until(lambda bank=bank: kept_reasons(bank), True)
    await trial.posted_nothing(ALPHA, BRAVO, CARLO)


def environment_of(bank: RunningBank) -> dict[str, str]:
    """Return what tells a command in which bank's name it runs."""
    return {
        **os.environ,
        "CONCORDAT_BIC": bank.bic,
        "CONCORDAT_DATA_DIR": str(bank.settings.data_dir),
        "CONCORDAT_ANCHOR": str(bank.settings.anchor),
        "CONCORDAT_COORDINATOR_URL": str(bank.settings.coordinator_url),
        "DATABASE_URL": bank.node.database_url,
    }


async def printed_proof(bank: RunningBank, cycle: str) -> tuple[int, str]:
    """Return the exit code of `concordat participant proof`, and what it says of what it prints."""
    command = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("concordat"),
        "participant",
        "proof",
        cycle,
        env=environment_of(bank),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    shown, said = await command.communicate()
    assert [msgspec.json.decode(line, type=ResultShown).cycle for line in shown.splitlines()] == [cycle]
    return command.returncode or 0, said.decode().strip()


async def nobody_believes_another_bank(trial: Trial, cycle: str) -> None:
    """What a bank shows of a result is proof by the coordinator's signature, or it is nothing."""
    town, bravo = trial.desk.town, trial.bank(BRAVO)
    (shown_to_bravo,) = await reads.shown_results(bravo.node.pool, cycle)
    document = canonical.decode(shown_to_bravo.commitment.payload_bytes(), ResultCommitment)
    for signer in (town.alpha.sign, SigningKey.generate()):
        forged = dsse.sign(replace(document, root="0" * 64), signer)
        answer = await refused(trial, SharedResult(cycle=cycle, commitment=forged))
        assert (answer.status, answer.code) == (422, "commitment_refused")
    unknown = SharedResult(cycle="2026-01-05-99", commitment=shown_to_bravo.commitment)
    answer = await refused(trial, unknown)
    assert (answer.status, answer.code) == (404, "result_unknown")
    # Of a pair that isn't its own a bank is shown nothing, whatever it names.
    of_carlo = tuple(leaf for leaf in shown_to_bravo.leaves if CARLO in leaf.line.about)
    seen = await bravo.node.follower.results.answer(
        ALPHA, SharedResult(cycle=cycle, commitment=shown_to_bravo.commitment, leaves=of_carlo)
    )
    assert {bank for leaf in seen.leaves for bank in leaf.line.about} == {ALPHA, BRAVO}
    assert len(await reads.shown_results(bravo.node.pool, cycle)) == 1


async def refused(trial: Trial, shared: SharedResult) -> RemoteProblem:
    """Return how BRAVO refuses what ALPHA shows it."""
    bravo = trial.bank(BRAVO)
    with pytest.raises(RemoteProblem) as problem:
        await trial.bank(ALPHA).node.peers.request(
            "POST", f"{bravo.settings.url}/federation/results", audience=BRAVO, json=shared, attempts_max=1
        )
    return problem.value
