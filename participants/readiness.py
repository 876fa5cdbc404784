"""Whether a bank's node can pay and be paid, and in what condition everything is that it depends on."""

from __future__ import annotations

from gateway.federation.problems import Refusal, ServiceReason
from gateway.federation.storage.failures import require_writable
from gateway.federation.supervision import conditions
from participants.continuity.continuity import WAY_OUT
from participants.cycle.follower import SILENCE_SECONDS_MAX
from participants.ledger.session import RestoredReason
from participants.node import BankNode
from participants.payments.backlog import NAMED_MAX

NAMED_EVENTS_MAX = 5
KEYS_KNOWN = "known"
HEAD = "SELECT sequence, current_setting('transaction_read_only') FROM ledger_head"


async def ready(node: BankNode) -> dict[str, str]:
    """Name what the node depends on. Raises Refusal where it can't pay or be paid.

    What only cycles need (the coordinator's feed, and who follows it) makes it `degraded`, and so do a settlement
    account on which something moved that this bank wasn't instructed with, or that can't be watched, keys that the
    trust list doesn't name, and payments that wait for long without the other bank's answer; the others go on.
    `reasons` names the conditions that it is for.
    """
    if (finding := node.continuity.finding) is not None:
        raise Refusal(RestoredReason.LEDGER_RESTORED, f"{finding}. {WAY_OUT}")
    if (refusal := node.ledger.refusal()) is not None:
        raise refusal
    if not node.trust.fresh:
        raise Refusal(ServiceReason.NOT_READY, f"trust_list: {_trust_condition(node)}, too old", retry_after_s=5)
    needed = conditions([node.ledger.task, node.outbound.task, node.continuity.task])
    events_written, read_only = await node.pool.fetchrow(HEAD)
    require_writable(read_only)
    undeliverable = ", ".join(
        f"{counterparty} since {since:%Y-%m-%dT%H:%M:%SZ}"
        for counterparty, since in node.outbound.undeliverable().items()
    )
    tasks = (
        *node.follower.tasks,
        node.settlement_account.task,
        node.trust_task,
        node.sign_in.task,
        node.clock_watch.task,
        node.exposures.task,
        node.backlog.task,
        node.recalls.task,
        *node.reconciliations.tasks,
        node.feed.task,
        node.webhooks.task,
        node.unsettled.task,
        node.terms.task,
        node.partitions.task,
    )
    behind = not node.follower.heard or node.follower.silent_s() > SILENCE_SECONDS_MAX
    membership, keys = _membership(node), _keys(node)
    wrong = {
        "membership": membership != "active",
        "keys": keys != KEYS_KNOWN,
        "coordinator_feed": behind,
        "queued": bool(node.backlog.old()),
        "settlement_account": bool(node.settlement_account.findings) or node.settlement_account.unread,
        "webhooks_disabled": node.webhooks.disabled,
        **{task.name: task.failure is not None for task in tasks},
    }
    reasons = [name for name, is_wrong in wrong.items() if is_wrong]
    return {
        "status": "degraded" if reasons else "ready",
        "reasons": ", ".join(reasons) or "none",
        "membership": membership,
        "keys": keys,
        "queued": _queued_condition(node),
        "held_elsewhere": node.backlog.elsewhere_condition(),
        "outbound": node.outbound.condition(),
        "undeliverable": undeliverable or "none",
        "set_aside": f"{sum(map(len, node.outbound.set_aside.values()))} payments",
        "ledger": f"{events_written} events",
        "exposure": node.exposures.condition(),
        "unsettled": node.unsettled.condition(),
        "trust_list": _trust_condition(node),
        "coordinator_feed": _feed_condition(node, behind=behind),
        "settlement_account": node.settlement_account.condition(),
        "webhooks": node.webhooks.condition(),
        "clocks": node.clocks.condition(),
        **needed,
        **{task.name: task.condition() for task in tasks},
    }


def _membership(node: BankNode) -> str:
    """Tell what the trust list says of this bank: other banks take no payment of one that isn't active."""
    member = node.trust.member(node.bic)
    return "not on the trust list" if member is None else member.status


def _keys(node: BankNode) -> str:
    """Tell whether the trust list names the keys by which this bank signs and says who it is."""
    signing = node.trust.signing_keys(node.bic)
    unknown = [
        use
        for use, known in (
            ("auth", node.trust.auth_key(node.bic, node.identity.auth.kid) is not None),
            ("sign", node.identity.sign.kid in signing),
        )
        if not known
    ]
    return f"not on the trust list: {', '.join(unknown)}" if unknown else KEYS_KNOWN


def _queued_condition(node: BankNode) -> str:
    """Tell how much waits for other banks, and name those for whom it waits for long."""
    old = [f"{name} since {since:%Y-%m-%dT%H:%M:%SZ}" for name, since in node.backlog.old().items()]
    return "; ".join([node.backlog.condition(), *old[:NAMED_MAX]])


def _trust_condition(node: BankNode) -> str:
    """Tell which trust list there is, and how sure it is that nobody was suspended since."""
    confirmed = f"confirmed {node.trust.age_s():.0f} s ago" if node.trust.confirmed_at else "not confirmed"
    return f"version {node.trust.current.version}, {confirmed}"


def _feed_condition(node: BankNode, *, behind: bool) -> str:
    """Tell how the follower is, and name the newest events that it set aside."""
    silent = f"{node.follower.silent_s():.0f} s"
    heard = f"heard {silent} ago" if node.follower.heard else f"not heard since the start, {silent} ago"
    heard = f"behind: {heard}" if behind else heard
    poison = sorted(node.follower.set_aside, key=lambda event: event.id)
    names = [f"{event.id} {event.type} {event.cycle or ''}".rstrip() for event in poison[-NAMED_EVENTS_MAX:]]
    return f"{heard}; {len(poison)} set aside: {', '.join(names)}" if poison else heard
