"""The editions of a cycle's result: after a default it is netted again, and the earlier result stays as evidence.

Every edition is verified like the one that settled: read, matched, netted, instructed and approved. What is special
about several is checked here: they follow each other without a gap, and two persons decided who is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from compliance.cycle.approval import Action
from compliance.export.record import CycleRecord
from compliance.statements import NettingResult
from compliance.verifier.documents import Documents, SignedDocument, read_documents
from compliance.verifier.findings import Finding, RefutedError
from compliance.verifier.moments import Moments


@dataclass(frozen=True, slots=True)
class Edition:
    """One result and what rests on it, beside what the banks signed, which is the same for all editions."""

    record: CycleRecord
    documents: Documents


def read_editions(record: CycleRecord, documents: Documents, moments: Moments, coordinator: str) -> tuple[Edition, ...]:
    """Verify the superseded documents under their signers' keys; return all editions, the one in force last."""
    by_edition: list[tuple[SignedDocument[NettingResult], Edition]] = []
    for superseded in record.superseded:
        about = msgspec.structs.replace(
            record,
            state="deferred",
            limits=superseded.limits,
            certificates=superseded.certificates,
            checks=superseded.checks,
            result=superseded.result,
            instructions=superseded.instructions,
            receipts=superseded.receipts,
            finality=None,
            superseded=(),
        )
        own = msgspec.structs.replace(
            about,
            cuts=(),
            attestations=(),
            positions=(),
            screenings=(),
            statements=(),
            signed_screenings=(),
            settled=(),
            equivocations=(),
        )
        read = read_documents(own, moments, coordinator)
        if read.result is None:
            raise RefutedError(Finding.RESULT_DIFFERS, "a superseded edition without a result")
        beside = replace(
            read,
            cuts=documents.cuts,
            attested=documents.attested,
            screenings=documents.screenings,
        )
        by_edition.append((read.result, Edition(about, beside)))
    by_edition.sort(key=lambda entry: entry[0].document.edition)
    editions = (*(edition for _, edition in by_edition), Edition(record, documents))
    _check_chain(editions)
    return editions


def _check_chain(editions: Sequence[Edition]) -> None:
    """Check that the editions count up from one and that each names the one before."""
    previous: SignedDocument[NettingResult] | None = None
    for number, edition in enumerate(editions, 1):
        result = edition.documents.result
        if result is None:
            if number > 1:
                raise RefutedError(Finding.RESULT_DIFFERS, "a superseded result, and none in its place")
            return
        if result.document.edition != number:
            detail = f"edition {result.document.edition} stands where edition {number} belongs"
            raise RefutedError(Finding.RESULT_DIFFERS, detail)
        if result.document.supersedes != (None if previous is None else previous.sha256):
            detail = f"edition {number} supersedes {result.document.supersedes}, not the edition before"
            raise RefutedError(Finding.RESULT_DIFFERS, detail)
        previous = result


def check_unwinding(editions: Sequence[Edition]) -> str | None:
    """Check that two persons decided on everybody who is left out; return who that is, None without a default."""
    out: tuple[str, ...] = ()
    for edition in editions:
        result = edition.documents.result
        if result is None or result.document.supersedes is None:
            continue
        defaulted = set(result.document.defaulted)
        unwound = [
            set(proposal.participants) | set(out)
            for proposal in edition.record.proposals
            if proposal.action is Action.UNWIND
            and proposal.decision == "confirm"
            and proposal.subject_sha256 == result.document.supersedes
        ]
        if defaulted not in unwound:
            detail = f"netted without {', '.join(sorted(defaulted)) or 'nobody'}, which no second person confirmed"
            raise RefutedError(Finding.APPROVAL_MISSING, detail)
        out = result.document.defaulted
    return ", ".join(out) if out else None
