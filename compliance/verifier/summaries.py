"""Summaries held against what they sum up: the checks are run again, the limits taken from the log of their changes.

Steps 11 and 12 of `compliance.verifier.verify`. A summary that can't be run again is said to be unproven.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from compliance.counting import counted
from compliance.cycle import checks
from compliance.cycle.checks import Check
from compliance.cycle.limits import Limits
from compliance.cycle.positions import Position
from compliance.cycle.states import State, Trigger, event_type
from compliance.event_log import LoggedEvent
from compliance.export.record import FORMAT_2, CycleRecord
from compliance.statements import NettingResult, ScreeningStatement
from compliance.verifier.documents import Documents, SignedDocument
from compliance.verifier.editions import Edition
from compliance.verifier.findings import Finding, RefutedError, instant
from compliance.verifier.log import CLOCK_SLACK, Log, Netted, facts_of, trigger_of
from compliance.verifier.matching import Matched
from compliance.verifier.rules import Rules

AGGREGATE_FLOW = "aggregate_flow"

# --- checks ---------------------------------------------------------------------------------------------------


def check_checks(edition: Edition, matched: Matched, log: Log, rules: Rules) -> tuple[str, ...]:
    """Run an edition's checks again and compare them word for word; return the names of those that nobody can."""
    record, documents = edition.record, edition.documents
    if documents.result is None:
        if record.checks:
            raise RefutedError(Finding.CHECKS_DIFFER, "checks of a result that there isn't")
        return ()
    result = documents.result.document
    by_digest = {of.sha256: of.position for of in matched.agreed.values()}
    included = [by_digest[entry.sha256] for entry in result.statements]
    computed = {check.name: check for check in _computed(record, documents, result, included, log, rules)}
    if [check.name for check in record.checks] != [*computed, AGGREGATE_FLOW]:
        named = ", ".join(check.name for check in record.checks) or "none"
        raise RefutedError(Finding.CHECKS_DIFFER, f"checks.json holds {named}")
    for check in record.checks[:-1]:
        if check != computed[check.name]:
            detail = f"{check.name} is a {check.verdict} in checks.json, {_difference(check, computed[check.name])}"
            raise RefutedError(Finding.CHECKS_DIFFER, detail)
    _check_aggregate_flow(record.checks[-1], included, rules)
    return (AGGREGATE_FLOW,)


def _difference(said: Check, computed: Check) -> str:
    if said.verdict != computed.verdict:
        return f"and a {computed.verdict} where it is run again: {'; '.join(computed.evidence) or computed.detail}"
    return f"and says otherwise where it is run again: {'; '.join(computed.evidence) or computed.detail}"


def _computed(
    record: CycleRecord,
    documents: Documents,
    result: NettingResult,
    included: Sequence[Position],
    log: Log,
    rules: Rules,
) -> Iterable[Check]:
    said = {check.name: check for check in record.checks}
    cut_off_at = log.cut_off_at(rules)
    if cut_off_at is None:
        raise RefutedError(Finding.RESULT_DIFFERS, "a result of a cycle that was never cut off")
    for screening in documents.screenings:
        for held in screening.document.lists:
            instant(held.imported_at, f"the screening of {screening.signer}")
    yield checks.conservation(result, included)
    yield checks.completeness(
        participants=log.participants,
        cuts=documents.cuts,
        attested=_attested(record, documents, said.get("completeness")),
        result=result,
        severity=rules.checks.completeness,
    )
    yield checks.net_debit_caps(result, record.limits, severity=rules.checks.caps)
    yield checks.bilateral_limits(included, record.limits, severity=rules.checks.caps)
    yield checks.screening_attested(
        included,
        _counted(record, documents, said.get("screening_attested")),
        cut_off_at=cut_off_at,
        list_age_max_hours=rules.screening.list_age_max_hours,
        required=rules.screening.required,
        severity=rules.checks.screening,
    )


def _attested(record: CycleRecord, documents: Documents, said: Check | None) -> set[str]:
    """Return who said that it had no more to state. The second format doesn't hold that: what it says is taken."""
    if record.format != FORMAT_2:
        return {of.participant for of in record.participants if of.attested_at is not None}
    evidence = () if said is None else said.evidence
    return {bank for bank in documents.cuts if f"{bank}: no complete attestation" not in evidence}


def _counted(record: CycleRecord, documents: Documents, said: Check | None) -> dict[str, ScreeningStatement]:
    """Return each bank's screening that counts. The second format doesn't say which of several that was."""
    handed_in: defaultdict[str, list[SignedDocument[ScreeningStatement]]] = defaultdict(list)
    for screening in documents.screenings:
        handed_in[screening.signer].append(screening)
    named = {of.participant: of.screening for of in record.participants}
    counted: dict[str, ScreeningStatement] = {}
    for bank, screenings in handed_in.items():
        if record.format != FORMAT_2:
            chosen = [of for of in screenings if of.sha256 == named.get(bank)]
        else:
            evidence = " ".join(() if said is None else said.evidence)
            chosen = sorted(screenings, key=lambda of: f"{bank}: screened {of.document.screened} of" not in evidence)
        if not chosen:
            raise RefutedError(Finding.CHECKS_DIFFER, f"which screening of {bank} counts isn't said")
        counted[bank] = chosen[0].document
    return counted


_PASSED = re.compile(r"No total stands out; (\d+) of (\d+) pairs have enough history\.")
_OUTLIER = re.compile(r"([A-Z]{3}) (\w+) (\w+): (\d+), above (\d+) % of the median of (\d+) cycles")


def _check_aggregate_flow(check: Check, included: Sequence[Position], rules: Rules) -> None:
    """Check what can be checked without the totals of earlier cycles: names, numbers, and how grave it is."""
    totals = {p.key: int(p.forth_minor) + int(p.back_minor) for p in included}
    rule = rules.aggregate_flow
    if check.verdict == "pass":
        said = _PASSED.fullmatch(check.detail)
        sound = said is not None and int(said[1]) <= int(said[2]) == len(totals) and not check.evidence
    else:
        outliers = [_OUTLIER.fullmatch(line) for line in check.evidence]
        sound = (
            bool(outliers)
            and check.verdict == rules.checks.aggregate_flow
            and all(
                line is not None
                and totals.get((line[1], line[2], line[3])) == int(line[4])
                and int(line[5]) == rule.factor_percent
                and int(line[6]) >= rule.cycles_min
                for line in outliers
            )
        )
    if not sound:
        raise RefutedError(Finding.CHECKS_DIFFER, f"{check.name} says of this result what can't be so: {check.detail}")


# --- limits ---------------------------------------------------------------------------------------------------

Account = tuple[str, ...]
"""The kind of a limit, and whose it is."""

_KINDS = {
    "cap.changed": ("cap_minor",),
    "prefunding.changed": ("prefunded_minor", "reserved_minor"),
    "bilateral_limit.changed": ("limit_minor",),
}


def check_limits(editions: Sequence[Edition], log: Log) -> str:
    """Check that each edition keeps the limits that were in force, by the log of their changes; return how many."""
    record = editions[-1].record
    before = _changes(record.limit_events)
    if len(before) != len(record.limit_events) or any(e.id >= record.events[0].id for e in record.limit_events):
        raise RefutedError(Finding.LIMITS_DIFFER, "limit-events.jsonl: a limit's last change before the opening, once")
    opened_at = instant(record.events[0].at, "the opening")
    if any(instant(e.at, f"event {e.id}") > opened_at + CLOCK_SLACK or e.cycle for e in record.limit_events):
        raise RefutedError(Finding.LIMITS_DIFFER, "limit-events.jsonl: a change of after the opening, or of a cycle")
    begun = [event for event in log.own if event.type == event_type(State.MATCHED)]
    netted = [event for event in log.own if trigger_of(event) in (Trigger.NETTED, Trigger.CHECK_FAILED)]
    with_result = [edition for edition in editions if edition.documents.result is not None]
    for edition, since, event in zip(with_result, begun, netted, strict=False):
        as_of = facts_of(event, Netted).limits_as_of
        if as_of is not None and not since.id <= as_of < event.id:
            raise RefutedError(Finding.LIMITS_DIFFER, f"event {event.id}: limits as of event {as_of}")
        # Where the log doesn't say when limits were read, it was between these two events.
        span = (since.id, event.id) if as_of is None else (as_of, as_of)
        _check_limits(edition.record.limits, record, before, span)
    return counted(len(_kept(record.limits)), "limit")


def _check_limits(limits: Limits, record: CycleRecord, before: Mapping[Account, Any], span: tuple[int, int]) -> None:
    """Check that each limit is one of the values that it had between two events."""
    earliest, latest = span
    at_first, later = dict(before), defaultdict[Account, list[Any]](list)
    for event in record.events:
        if event.type in _KINDS and event.id <= latest:
            [(account, value)] = _changes([event]).items()
            if event.id <= earliest:
                at_first[account] = value
            else:
                later[account].append(value)
    kept = _kept(limits)
    for account in sorted(kept.keys() | at_first.keys() | later.keys()):
        value, allowed = kept.get(account), later[account]
        if account in at_first or record.format != FORMAT_2:
            allowed = [at_first.get(account), *allowed]
        elif not allowed or value not in allowed:
            continue  # The second format doesn't tell what a limit was at the cycle's opening.
        if value not in allowed:
            detail = f"{' '.join(account)} is {_words(value)} in limits.json, {_words(allowed[-1])} by the log"
            raise RefutedError(Finding.LIMITS_DIFFER, detail)


def _words(value: Any) -> str:
    return "none" if value is None else " and ".join(map(str, value))


def _changes(events: Iterable[LoggedEvent]) -> dict[Account, Any]:
    """Return what changes of limits set, None where one was lifted."""
    changes: dict[Account, Any] = {}
    for event in events:
        data, members = event.data, _KINDS.get(event.type)
        if members is None:
            raise RefutedError(Finding.LIMITS_DIFFER, f"event {event.id}, {event.type}, changes no limit")
        account: Account = (event.type.removesuffix(".changed"), str(data.get("bic")), str(data.get("currency")))
        if event.type == "bilateral_limit.changed":
            account = (*account, str(data.get("counterparty")))
        values = tuple(data.get(member) for member in members)
        changes[account] = None if values == (None,) else values
    return changes


def _kept(limits: Limits) -> dict[Account, Any]:
    kept: dict[Account, Any] = {("cap", cap.participant, cap.currency): (cap.cap_minor,) for cap in limits.caps}
    for of in limits.prefunding:
        kept["prefunding", of.participant, of.currency] = (of.prefunded_minor, of.reserved_minor)
    for limit in limits.bilateral:
        kept["bilateral_limit", limit.participant, limit.currency, limit.counterparty] = (limit.limit_minor,)
    return kept
