"""What a participant's default would mean for a cycle: computed from its result, changing nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from compliance.cycle.approval import Action
from compliance.cycle.positions import Position
from gateway.coordinator.cycles.approvals import require_participants
from gateway.coordinator.cycles.reasons import CycleReason
from gateway.coordinator.cycles.tables import cycles, pairs, results, settlements
from gateway.federation.messages.default import (
    ChangeView,
    ClearedBankView,
    ClearingView,
    CurrencyDefaultView,
    CutDebtView,
    DefaultView,
    LayerView,
    ShareView,
    UnwindView,
    WaterfallView,
)
from gateway.federation.problems import Refusal
from gateway.federation.storage.database import transaction
from netting.default import CurrencyDefault, DryRun, dry_run
from netting.loss_allocation.clearing_vector import ClearingVector
from netting.loss_allocation.unwind import Unwind
from netting.loss_allocation.waterfall import SCHEME, WaterfallOutcome
from netting.model import Obligation

WORK = 20_000_000
"""Debts gone through for clearing payments: a few seconds, beside which everything else goes on."""


class Defaults:
    """Answers what operators have to know before they propose anything."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def dry_run(self, cycle_id: str, participants: Sequence[str]) -> DefaultView:
        """Return the alternatives for the default of `participants`. Raises Refusal."""
        named = tuple(sorted(set(participants)))
        async with transaction(self._engine, isolation="REPEATABLE READ") as conn:
            cycle = await cycles.find(conn, cycle_id)
            result = await results.find(conn, cycle_id)
            if result is None:
                raise Refusal(CycleReason.RESULT_UNKNOWN, f"cycle {cycle_id} is {cycle.state} and has no result")
            require_participants(Action.UNWIND, named, result.currencies)
            kept = await results.kept_limits(conn, result.sha256)
            agreed = await pairs.agreed_statements(conn, cycle_id)
            rulebook = await cycles.rulebook_of(conn, cycle)
            attempt = await settlements.last_attempt(conn, cycle_id)
        # In a thread of its own: a large cycle takes its time, and others are served meanwhile.
        run = await asyncio.to_thread(
            dry_run,
            _obligations(agreed),
            named,
            rulebook.default_waterfall.waterfall(kept),
            caps=kept.debits(),
            cash=kept.debits(),
            work=WORK,
        )
        return _view(cycle_id, result.sha256, result.edition, None if attempt is None else attempt.detail, run)


def _obligations(agreed: Sequence[tuple[str, Position]]) -> list[Obligation]:
    return [
        Obligation(p.currency, debtor, creditor, int(minor))
        for _, p in agreed
        for debtor, creditor, minor in ((p.low, p.high, p.forth_minor), (p.high, p.low, p.back_minor))
        if minor != "0"
    ]


def _view(cycle: str, result: str, edition: int, agent_says: str | None, run: DryRun) -> DefaultView:
    return DefaultView(
        cycle=cycle,
        result=result,
        edition=edition,
        participants=run.defaulters,
        agent_says=agent_says,
        covered=run.covered,
        currencies=tuple(_currency(of_currency) for of_currency in run.currencies),
    )


def _currency(of_currency: CurrencyDefault) -> CurrencyDefaultView:
    return CurrencyDefaultView(
        currency=of_currency.currency,
        losses=tuple(ShareView(participant=name, amount_minor=str(loss)) for name, loss in of_currency.shortfalls),
        waterfall=_waterfall(of_currency.waterfall),
        unwind=_unwind(of_currency.unwind),
        clearing=None if of_currency.clearing is None else _clearing(of_currency.clearing),
    )


def _waterfall(outcome: WaterfallOutcome) -> WaterfallView:
    return WaterfallView(
        loss_minor=str(outcome.loss),
        layers=tuple(
            LayerView(
                layer=layer.layer.kind.value,
                loss_minor=str(layer.loss),
                available_minor=str(layer.available),
                paid_minor=str(layer.paid),
                shares=tuple(
                    ShareView(
                        participant=None if share.participant == SCHEME else share.participant,
                        amount_minor=str(share.amount),
                    )
                    for share in layer.shares
                ),
                remaining_minor=str(layer.remaining),
            )
            for layer in outcome.layers
        ),
        covered_minor=str(outcome.covered),
        uncovered_minor=str(outcome.uncovered),
    )


def _unwind(unwound: Unwind) -> UnwindView:
    return UnwindView(
        removed_minor=str(unwound.removed),
        settlement_before_minor=str(unwound.before),
        settlement_after_minor=str(unwound.after),
        changes=tuple(
            ChangeView(
                participant=change.participant,
                before_minor=str(change.before),
                after_minor=str(change.after),
                change_minor=str(change.change),
                limit_minor=None if change.cap is None else str(change.cap),
                beyond_minor=str(change.beyond),
            )
            for change in unwound.changes
        ),
    )


def _clearing(vector: ClearingVector) -> ClearingView:
    return ClearingView(
        rounds=vector.rounds,
        unpaid_minor=str(vector.unpaid),
        banks=tuple(
            ClearedBankView(
                participant=bank.participant,
                owed_minor=str(bank.owed),
                received_minor=str(bank.received),
                paid_minor=str(bank.paid),
                unpaid_minor=str(bank.unpaid),
                fell=bank.failing_round,
            )
            for bank in vector.banks
            if bank.failing_round
        ),
        debts=tuple(
            CutDebtView(debtor=cut.debtor, creditor=cut.creditor, owed_minor=str(cut.owed), paid_minor=str(cut.paid))
            for cut in vector.cuts
        ),
    )
