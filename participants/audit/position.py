"""`concordat participant position`: the evidence for one pair of a cycle as a file, for whom the bank shows it to."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import msgspec
import typer

from compliance.bic import BicError, normal_bic
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.cycle.positions import ProvenStatement
from compliance.position_evidence import FORMAT, PositionEvidence, signer_of, verify_position
from compliance.statements import CURRENCY_PATTERN
from compliance.terminal import shown
from compliance.trust import Anchor, AnchorError
from gateway.federation.commands.own_database import own_database
from gateway.federation.http.client import FederationClient, MemberIdentity, RemoteError
from gateway.federation.messages.attestation import AgreedPosition
from gateway.federation.settings import ConfigurationError, NodeSettings
from gateway.federation.storage.postgres import dsn
from gateway.federation.storage.sessions import open_session
from gateway.federation.storage.whole_file import write_whole
from participants.cycle import attestations, reads
from participants.ledger import DATABASE, MIGRATIONS

BY_BOTH, NOTHING_ATTESTED, BY_ONE = 0, 1, 3
"""Exit codes: both banks' signatures are in the file; there is nothing to write; only this bank's was at hand."""


def run_position(settings: NodeSettings, cycle: str, counterparty: str, currency: str, out: Path | None) -> int:
    """Write what this bank attested of a pair last, and what proves it; return the exit code.

    A file that both banks' signatures are in is never replaced by one with one of them.
    """
    counterparty = _asked(settings.bic, counterparty, currency)
    target = out or Path(f"{cycle}-{counterparty}-{currency}.json")
    with own_database(settings, DATABASE, MIGRATIONS) as url:
        try:
            proven = asyncio.run(_proven(url, settings.bic, cycle, counterparty, currency))
        except LookupError as error:
            typer.echo(shown(error.args[0]), err=True)
            return NOTHING_ATTESTED
    evidence = PositionEvidence(format=FORMAT, proven=proven, trust_list=_trust_list(settings))
    evidence = asyncio.run(_with_theirs(settings, evidence, cycle, counterparty, currency))
    if evidence.counterparty is None and _is_by_both(target):
        typer.echo(shown(f"{target} holds what both banks signed, and is left as it is"), err=True)
        return BY_ONE
    write_whole(target, msgspec.json.format(msgspec.json.encode(evidence)) + b"\n")
    signed = [signer_of(part.attestation) for part in (evidence.proven, evidence.counterparty) if part is not None]
    typer.echo(shown(f"{target}: {target.stat().st_size:,} bytes, signed by {' and '.join(signed)}"))
    return BY_ONE if evidence.counterparty is None else BY_BOTH


def _asked(bank: str, counterparty: str, currency: str) -> str:
    """Return the other bank's BIC in its normal form; ends the command for what can't be asked for."""
    try:
        normal = normal_bic(counterparty)
    except BicError as error:
        raise typer.BadParameter(str(error), param_hint="COUNTERPARTY") from None
    if normal == normal_bic(bank):
        raise typer.BadParameter(f"{normal} is this bank itself", param_hint="COUNTERPARTY")
    if not re.fullmatch(CURRENCY_PATTERN, currency):
        raise typer.BadParameter(f"{currency!a} isn't three capital letters, as in EUR", param_hint="CURRENCY")
    return normal


async def _proven(url: str, bank: str, cycle: str, counterparty: str, currency: str) -> ProvenStatement:
    """Return what proves a bank's newest statement of a pair. Raises LookupError with why there is nothing."""
    connection = await open_session(dsn(url), timeout=10)
    try:
        attested = await reads.attested(connection, cycle)
        if not attested and not await reads.took_part(connection, cycle):
            raise LookupError(f"{bank} has cut nothing off for a cycle {cycle}")
    finally:
        await connection.close()
    return attestations.shown_of(attested, cycle, bank=bank, counterparty=counterparty, currency=currency)


def _trust_list(settings: NodeSettings) -> Envelope:
    path = settings.trust_list_path
    try:
        return msgspec.json.decode(path.read_bytes(), type=Envelope)
    except FileNotFoundError:
        raise ConfigurationError(f"{path} isn't there: the node keeps it once the coordinator answered") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is no trust list: {error}") from None


async def _with_theirs(
    settings: NodeSettings, evidence: PositionEvidence, cycle: str, counterparty: str, currency: str
) -> PositionEvidence:
    """Add the same statement under the other bank's attestation, if the coordinator shows it and it verifies."""
    url, anchor_path = settings.coordinator_url, settings.anchor
    if url is None or anchor_path is None:
        missing = "CONCORDAT_COORDINATOR_URL" if url is None else "CONCORDAT_ANCHOR"
        return _alone(evidence, counterparty, f"{missing} isn't set")
    path = f"/cycles/{cycle}/positions/{settings.bic}/{counterparty}/{currency}"
    try:
        anchor = Anchor.read(anchor_path)
        auth = MemberIdentity(settings.bic, settings.keys_dir).auth
        async with FederationClient(settings.bic, auth, url) as client:
            agreed = await client.get(url + path, AgreedPosition, audience=anchor.bic)
        theirs = next(proof for proof in agreed.proven if signer_of(proof.attestation) != settings.bic)
        both = msgspec.structs.replace(evidence, counterparty=theirs)
        verify_position(both, anchor)
    except (RemoteError, AnchorError, EvidenceError, OSError) as error:
        return _alone(evidence, counterparty, str(error))
    except StopIteration:
        return _alone(evidence, counterparty, f"{url} shows another pair")
    return both


def _alone(evidence: PositionEvidence, counterparty: str, why: str) -> PositionEvidence:
    typer.echo(shown(f"without what {counterparty} signed: {why}"), err=True)
    return evidence


def _is_by_both(target: Path) -> bool:
    """Tell whether a file is evidence with the signatures of both banks."""
    try:
        return msgspec.json.decode(target.read_bytes(), type=PositionEvidence).counterparty is not None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return False
