"""What is looked at between netting and settlement: named checks, pure functions of signed documents and rules.

A check says what it found, never what follows from it: the coordinator holds a cycle on a `fail`, and the
rulebook says whether a `warn` needs four eyes. Anybody with the cycle's documents can run the same checks.
Evidence names participants, pairs and totals; there is no payment and no customer in it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from compliance.cycle.carry_over import BY_NETTING
from compliance.cycle.limits import Limits
from compliance.cycle.positions import Position
from compliance.statements import CarryReason, NettingResult, ScreeningStatement

Verdict = Literal["pass", "warn", "fail"]
Severity = Literal["warn", "fail"]
PairKey = tuple[str, str, str]
"""Currency and the two participants of a pair, sorted."""


class Check(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One check: `detail` is its outcome in a sentence, `evidence` a line for each finding."""

    name: str
    verdict: Verdict
    detail: str
    evidence: tuple[str, ...] = ()


def worst(checks: Iterable[Check]) -> Verdict:
    """Return the gravest verdict of several checks."""
    verdicts = {check.verdict for check in checks}
    return "fail" if "fail" in verdicts else "warn" if "warn" in verdicts else "pass"


def _check(name: str, severity: Severity, findings: Sequence[str], *, passed: str, failed: str) -> Check:
    if not findings:
        return Check(name=name, verdict="pass", detail=passed)
    return Check(name=name, verdict=severity, detail=failed, evidence=tuple(findings))


def conservation(result: NettingResult, included: Iterable[Position]) -> Check:
    """Check that the result moves exactly what the matched statements say, and creates or destroys nothing.

    Computed from the positions by plain sums, independently of the netting.
    """
    pays: Counter[tuple[str, str]] = Counter()
    receives: Counter[tuple[str, str]] = Counter()
    for p in included:
        forth, back, low, high = int(p.forth_minor), int(p.back_minor), (p.currency, p.low), (p.currency, p.high)
        pays[low] += forth
        receives[high] += forth
        pays[high] += back
        receives[low] += back
    findings: list[str] = []
    for currency in result.results:
        code = currency.currency
        expected = sum(amount for (of, _), amount in pays.items() if of == code)
        if int(currency.gross_minor) != expected:
            findings.append(f"{code}: gross {currency.gross_minor}, the statements say {expected}")
        if total := sum(int(position.net_minor) for position in currency.positions):
            findings.append(f"{code}: nets sum to {total}")
        for position in currency.positions:
            paid, received = pays.pop((code, position.participant), 0), receives.pop((code, position.participant), 0)
            stated = (int(position.pays_minor), int(position.receives_minor), int(position.net_minor))
            if stated != (paid, received, received - paid):
                findings.append(f"{code} {position.participant}: pays, receives, net are {stated}")
    findings += [f"{code} {name}: left out of the result" for code, name in sorted(+pays | +receives)]
    return _check(
        "conservation",
        "fail",
        findings,
        passed="The positions are the sums of the matched statements and sum to zero in every currency.",
        failed="The positions don't follow from the matched statements.",
    )


def completeness(
    *, participants: Collection[str], cuts: Collection[str], attested: Collection[str], result: NettingResult,
    severity: Severity,
) -> Check:  # fmt: skip
    """Check that every participant delivered its cut and its statements, and that no pair had to be carried over.

    Pairs that a limit left out are attested; they don't count here.
    """
    findings = [f"{name}: no cut" for name in sorted(set(participants) - set(cuts))]
    findings += [f"{name}: no complete attestation" for name in sorted((set(participants) & set(cuts)) - set(attested))]
    findings += [
        f"{pair.currency} {pair.pair[0]} {pair.pair[1]}: carried over, {pair.reason}"
        for pair in result.carried_over
        if pair.reason not in BY_NETTING
    ]
    return _check(
        "completeness",
        severity,
        findings,
        passed=f"All {len(participants)} participants attested and every pair with payments is in the result.",
        failed="Some participants or pairs are missing from the result.",
    )


def net_debit_caps(result: NettingResult, limits: Limits, *, severity: Severity) -> Check:
    """Check that nobody owes more than its cap and what it prefunded, less what it reserved."""
    debits = limits.debits()
    findings = [
        f"{currency.currency} {position.participant}: owes {-int(position.net_minor)}, may owe {limit}"
        for currency in result.results
        for position in currency.positions
        if (limit := debits.get((position.participant, currency.currency))) is not None
        and -int(position.net_minor) > limit
    ]
    excluded = sum(pair.reason is CarryReason.NET_DEBIT_CAP for pair in result.carried_over)
    return _check(
        "net_debit_caps",
        severity,
        findings,
        passed=f"No net debit exceeds its cap and prefunding; {excluded} pairs were left out to keep it so.",
        failed="A net debit exceeds its cap and prefunding.",
    )


def bilateral_limits(included: Iterable[Position], limits: Limits, *, severity: Severity) -> Check:
    """Check that in no pair of the result one owes the other more than that one lets it."""
    between = limits.between()
    findings: list[str] = []
    looked_at = 0
    for p in included if between else ():
        difference = int(p.forth_minor) - int(p.back_minor)
        for owing, owed, owes in ((p.low, p.high, difference), (p.high, p.low, -difference)):
            limit = between.get((owing, owed, p.currency))
            looked_at += limit is not None
            if limit is not None and owes > limit:
                findings.append(f"{p.currency} {owing} owes {owed} {owes}, may owe {limit}")
    return _check(
        "bilateral_limits",
        severity,
        sorted(findings),
        passed=f"{looked_at} bilateral limits concern the pairs of the result; all are kept.",
        failed="One bank owes another more than that one lets it.",
    )


def screening_attested(
    included: Iterable[Position],
    screenings: Mapping[str, ScreeningStatement],
    *,
    cut_off_at: datetime,
    list_age_max_hours: int,
    required: bool,
    severity: Severity,
) -> Check:
    """Check that each participant in the result says it screened its payments, and against fresh lists.

    It must have screened at least as many payments as its matched statements count, and have imported every list
    within `list_age_max_hours` before the cut-off. A pending hit is no finding: a payment that people haven't decided
    on has no number and isn't in the cycle.
    """
    payments: defaultdict[str, int] = defaultdict(int)
    for p in included:
        payments[p.low] += p.forth_count + p.back_count
        payments[p.high] += p.forth_count + p.back_count
    findings: list[str] = []
    oldest = cut_off_at - timedelta(hours=list_age_max_hours)
    for participant in sorted(payments) if required else ():
        screening = screenings.get(participant)
        if screening is None:
            findings.append(f"{participant}: no screening statement")
            continue
        if not screening.lists:
            findings.append(f"{participant}: screened against no list")
        findings += [
            f"{participant}: {held.name} imported at {held.imported_at}"
            for held in screening.lists
            if datetime.fromisoformat(held.imported_at) < oldest
        ]
        if screening.screened < payments[participant]:
            findings.append(f"{participant}: screened {screening.screened} of {payments[participant]} payments")
    return _check(
        "screening_attested",
        severity,
        findings,
        passed=f"{len(payments)} participants screened what they sent and accepted."
        if required
        else "The rulebook asks for no screening.",
        failed="A participant's screening statement is missing or falls short.",
    )


def aggregate_flow(
    totals: Mapping[PairKey, int],
    history: Mapping[PairKey, Sequence[int]],
    *,
    cycles_min: int,
    factor_percent: int,
    floor_minor: Mapping[str, int],
    severity: Severity,
) -> Check:
    """Check that no pair's total stands out against the median of its own last settled cycles.

    A total stands out above `factor_percent` of the median. Pairs with fewer than `cycles_min` earlier cycles and
    totals below their currency's floor are passed over.
    """
    findings: list[str] = []
    examined = 0
    for key, total in sorted(totals.items()):
        currency, low, high = key
        if total < floor_minor.get(currency, 0) or len(past := history.get(key, ())) < cycles_min:
            continue
        examined += 1
        if total * 100 <= factor_percent * min(past):
            continue  # nor above the median, which isn't less
        past = sorted(past)
        # Twice the median, so that it stays an integer when it lies between two values.
        median_doubled = past[(len(past) - 1) // 2] + past[len(past) // 2]
        if total * 200 > factor_percent * median_doubled:
            findings.append(
                f"{currency} {low} {high}: {total}, above {factor_percent} % of the median of {len(past)} cycles"
            )
    return _check(
        "aggregate_flow",
        severity,
        findings,
        passed=f"No total stands out; {examined} of {len(totals)} pairs have enough history.",
        failed="The total of a pair stands out against its own past.",
    )
