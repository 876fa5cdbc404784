"""The steps at which somebody is killed: who is about to write which row, and who dies then."""

from __future__ import annotations

from dataclasses import dataclass

VICTIM, PEER = "ALDRXXA0", "BRCHXXB0"
BANKS = (VICTIM, PEER, "CEDRXXC0")


@dataclass(frozen=True)
class Kill:
    """Whom to kill when somebody is about to write a row: `gate` is "<institution>: <table>.<value>"."""

    when: str
    gate: str
    victims: tuple[str, ...]

    @property
    def place(self) -> str:
        return self.gate.partition(": ")[0]

    @property
    def row(self) -> str:
        return self.gate.partition(": ")[2]


def bank(when: str, gate: str) -> Kill:
    return Kill(f"bank {when}", gate, (VICTIM,))


def coordinator(when: str, gate: str) -> Kill:
    return Kill(f"coordinator {when}", gate, ("coordinator",))


def agent(when: str, gate: str, *others: str) -> Kill:
    return Kill(f"agent {when}", gate, ("agent", *others))


KILLS = (
    # A bank, with payments under way: as their sender, as their receiver, and as the one who is to hear the answer.
    bank("before an order is durable", f"{VICTIM}: event.payment.reserved"),
    bank("before an incoming payment is durable", f"{VICTIM}: event.payment.accepted"),
    bank("while the other one accepts", f"{PEER}: event.payment.accepted"),
    bank("with the answer in hand", f"{VICTIM}: event.payment.posted"),
    # A bank, in the cycle.
    bank("before its cut is durable", f"{VICTIM}: event.cycle.cut"),
    bank("before its cut is taken in", f"coordinator: cuts.{VICTIM}"),
    bank("before its attestation is durable", f"{VICTIM}: event.cycle.attested"),
    bank("before its attestation is taken in", f"coordinator: attestations.{VICTIM}"),
    bank("when all pairs agree", "coordinator: cycles.matched"),
    bank("before approval", "coordinator: proposals.approve"),
    bank("before an instruction is kept", f"{VICTIM}: event.cycle.instructed"),
    bank("before its receipt is taken in", f"coordinator: instructions.{VICTIM}"),
    bank("before finality", "coordinator: cycles.final"),
    bank("before its settlement leg is durable", f"{VICTIM}: event.cycle.settled"),
    # The coordinator, before each of its steps is durable.
    coordinator("while the banks pay", f"{VICTIM}: event.payment.reserved"),
    coordinator("before the cut-off", "coordinator: cycles.cut_off"),
    coordinator("while cuts come in", f"coordinator: cuts.{VICTIM}"),
    coordinator("with all cuts in", "coordinator: cycles.attesting"),
    coordinator("while attestations come in", f"coordinator: attestations.{VICTIM}"),
    coordinator("with all pairs agreed", "coordinator: cycles.matched"),
    coordinator("with the result computed", "coordinator: cycles.netted"),
    coordinator("before a proposal is durable", "coordinator: proposals.approve"),
    coordinator("before approval is durable", "coordinator: cycles.approved"),
    coordinator("with instructions signed", "coordinator: cycles.instructed"),
    coordinator("before the agent has settled", "agent: entry.settlement"),
    coordinator("after the agent has settled, before it knows", "coordinator: cycles.settled"),
    coordinator("before finality is durable", "coordinator: cycles.final"),
    coordinator("before a bank posts", f"{VICTIM}: event.cycle.settled"),
    # The agent.
    agent("before approval", "coordinator: cycles.approved"),
    agent("before it is asked", "coordinator: cycles.instructed"),
    agent("before its postings are durable", "agent: entry.settlement"),
    agent("before its answer is durable", "agent: answer.ACSC"),
    agent("and coordinator, settled and unheard", "coordinator: cycles.settled", "coordinator"),
)

# What another coordinator goes on with, and which of the two dies: None is the one that writes the row. Where another
# institution writes it, it's the first one, and each of them once where either may have asked for it.
_TURNS = {"coordinator": (None,), "agent": (0, 1)}
TAKEN_OVER = [
    (kill, turn) for kill in KILLS if kill.victims == ("coordinator",) for turn in _TURNS.get(kill.place, (0,))
]
