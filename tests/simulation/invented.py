"""Payments for a simulated federation, the same for the same seed. Everything in them is unmistakable in a dump.

Names are made of letters in no language, account numbers and amounts have a dozen random digits, so that finding
one of them anywhere means that it was copied there.
"""

from __future__ import annotations

import random
import string
import uuid
from collections.abc import Sequence

from gateway.demo.plan import Plan, plan_day
from gateway.federation.money import EXPONENTS
from participants.intake.rows import PaymentRow

CURRENCIES = ("EUR", "JPY")
CUSTOMERS = 3
DIGITS = 12


def plan_of(banks: Sequence[str], *, cycles: int, per_lane: int, seed: int) -> Plan:
    """Return a day in which, in every cycle, every bank pays every other one `per_lane` times in each currency."""
    rng = random.Random(seed)
    customers = {bank: [(_account(bank, rng), _name(rng)) for _ in range(CUSTOMERS)] for bank in banks}
    rows: list[PaymentRow] = []
    for cycle in range(cycles):
        lanes = [(s, r, c) for s in banks for r in banks if s != r for c in CURRENCIES for _ in range(per_lane)]
        rng.shuffle(lanes)
        for sender, receiver, currency in lanes:
            debtor, creditor = rng.choice(customers[sender]), rng.choice(customers[receiver])
            rows.append(
                PaymentRow(
                    line=len(rows) + 1,
                    debtor_bank=sender,
                    debtor_account=debtor[0],
                    creditor_bank=receiver,
                    creditor_account=creditor[0],
                    currency=currency,
                    amount_minor=rng.randrange(10 ** (DIGITS - 1), 10**DIGITS),
                    id=str(uuid.UUID(int=rng.getrandbits(128), version=4)),
                    debtor_name=debtor[1],
                    creditor_name=creditor[1],
                    remittance=f"{_word(rng)} {_digits(rng)}",
                    step=cycle,
                )
            )
    return plan_day(rows, cycles=cycles, banks=banks)


def secrets_of(rows: Sequence[PaymentRow]) -> dict[str, str]:
    """Return all that only the two banks of a payment may know, as single words, and what each is."""
    found: dict[str, str] = {}
    for row in rows:
        found |= dict.fromkeys((row.id.replace("-", ""), row.id.rpartition("-")[2]), "payment id")
        # As it is paid, and as ISO 20022 writes it.
        found |= dict.fromkeys(
            (str(row.amount_minor), str(row.amount_minor)[: -EXPONENTS[row.currency] or None]), "amount"
        )
        found |= dict.fromkeys((row.debtor_account[5:], row.creditor_account[5:]), "account")
        found |= dict.fromkeys((*row.debtor_name.split(), *row.creditor_name.split()), "name")
        found |= dict.fromkeys(row.remittance.split(), "remittance")
    return found


def _account(bank: str, rng: random.Random) -> str:
    return f"{bank[:4]}-{_digits(rng)}"


def _digits(rng: random.Random) -> str:
    return str(rng.randrange(10 ** (DIGITS - 1), 10**DIGITS))


def _word(rng: random.Random) -> str:
    return "".join(rng.choices(string.ascii_lowercase, k=9)).capitalize()


def _name(rng: random.Random) -> str:
    return f"{_word(rng)} {_word(rng)}"
