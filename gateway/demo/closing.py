"""The evening: what the books say, and the proof of it.

While the nodes run, the banks' lanes and the agent's accounts are read and every cycle's audit export is fetched.
Then everything is stopped, each ledger is recomputed from its journal, and the exports are verified offline.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from gateway.demo.federation import Federation, Institution
from gateway.demo.plan import Plan
from gateway.demo.processes import ProcessError
from gateway.demo.report import BankReport, DayReport
from participants.api.messages import LaneView

Lane = tuple[str, str, str]


async def read_books(federation: Federation, plan: Plan, report: DayReport, returned: Mapping[str, int]) -> None:
    """Ask every bank and the agent where they stand; add the banks and what follows to the report."""
    lanes: dict[str, dict[Lane, LaneView]] = {}
    all_explained = True
    for bic, bank in federation.banks.items():
        desk = federation.desks[bic]
        own_lanes = await desk.lanes()
        lanes[bic] = {(lane.sender, lane.receiver, lane.currency): lane for lane in own_lanes}
        all_explained = all_explained and not await desk.settlement_findings()
        nostro = {account.currency: int(account.balance_minor) for account in await desk.accounts("nostro")}
        report.banks.append(
            BankReport(
                bic=bic,
                name=bank.name,
                sent=sum(lane.last_sequence for lane in own_lanes if lane.sender == bic),
                received=sum(lane.last_sequence for lane in own_lanes if lane.receiver == bic),
                returned=returned.get(bic, 0),
                proven=False,
                nostro=nostro,
                at_agent=await federation.agent_desk.balances(bic),
            )
        )
    ordered = Counter(payment.debtor_bank for cycle in plan.cycles for payment in cycle)
    total = sum(ordered.values()) + sum(returned.values())
    arrived = all(bank.sent == ordered[bank.bic] + bank.returned for bank in report.banks)
    report.proofs.append(
        (f"each of {total:,} payments was sent, and accepted once: nothing is lost, nothing is double", arrived)
    )
    report.proofs.append(("sender and receiver count the same on every lane", _same_on_both_sides(lanes)))
    nothing_open = all(
        lane.last_sequence == lane.settled_sequence for own_lanes in lanes.values() for lane in own_lanes.values()
    )
    report.proofs.append(("every accepted payment is settled", nothing_open))
    report.proofs.append(("what moved at the agent was instructed, or the bank has explained it", all_explained))


def _same_on_both_sides(lanes: Mapping[str, Mapping[Lane, LaneView]]) -> bool:
    for own_lanes in lanes.values():
        for key, lane in own_lanes.items():
            sender, receiver, _ = key
            if lanes[sender].get(key) != lane or lanes[receiver].get(key) != lane:
                return False
    return True


async def export_cycles(federation: Federation, report: DayReport, directory: Path) -> list[Path]:
    """Fetch the audit export of every cycle as an auditor, and return the files."""
    await asyncio.to_thread(directory.mkdir)
    paths = []
    for cycle in report.cycles:
        path = directory / f"{cycle.id}.zip"
        await asyncio.to_thread(path.write_bytes, await federation.carol.export(cycle.id))
        paths.append(path)
    return paths


async def prove(federation: Federation, report: DayReport, exports: list[Path]) -> None:
    """Recompute every ledger and verify every export, with nothing running but the database server."""

    async def holds(institution: Institution, *arguments: str) -> bool:
        try:
            await federation.command(institution, *arguments)
        except ProcessError:
            return False
        return True

    banks = {bank.bic: bank for bank in report.banks}
    checks = {
        **{bic: holds(institution, "participant", "fsck") for bic, institution in federation.banks.items()},
        "agent": holds(federation.agent, "agent", "fsck"),
        "coordinator": holds(federation.coordinator, "coordinator", "status"),
        **{
            path.name: holds(federation.coordinator, "verify", str(path), "--trust", str(federation.anchor))
            for path in exports
        },
    }
    outcomes = dict(zip(checks, await asyncio.gather(*checks.values()), strict=True))
    for bic, bank in banks.items():
        bank.proven = outcomes[bic]
    report.proofs.append(
        (f"{len(banks)} bank ledgers recomputed from their journals: balanced", _all_hold(outcomes, banks))
    )
    report.proofs.append(("the settlement agent's ledger recomputed from its journal: balanced", outcomes["agent"]))
    report.proofs.append(("the coordinator's event log is whole", outcomes["coordinator"]))
    names = [path.name for path in exports]
    report.proofs.append(
        (f"{len(names)} audit exports verified offline, from signatures to netting", _all_hold(outcomes, names))
    )


def _all_hold(outcomes: Mapping[str, bool], names: Iterable[str]) -> bool:
    return all(outcomes[name] for name in names)
