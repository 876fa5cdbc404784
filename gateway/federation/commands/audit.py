"""The commands `concordat export` and `concordat verify`.

`verify` works without any network and imports neither a web framework nor a database: it must run years later, on a
regulator's machine, from nothing but the file and the trust anchor.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import msgspec
import typer

from compliance.terminal import shown
from gateway.federation.commands.client_options import ClientKey, ClientName, CoordinatorBic, CoordinatorUrl
from gateway.federation.commands.failures import explained
from gateway.federation.storage.whole_file import whole_file

if TYPE_CHECKING:
    from compliance.crypto.keys import SigningKey

FINAL = "final"
VERIFIED, NOT_VERIFIED, NOT_READABLE = 0, 1, 2
"""Exit codes."""

DOWNLOAD_TIMEOUT_S = 600


def export(
    cycle: Annotated[str, typer.Argument(help="The cycle's id, as in 2026-03-02-01.")],
    coordinator: CoordinatorUrl,
    coordinator_bic: CoordinatorBic,
    client: ClientName,
    key: ClientKey,
    out: Annotated[
        Path | None, typer.Option(help="Where to write the archive; <cycle>.zip if absent.", dir_okay=False)
    ] = None,
) -> None:
    """Write the signed archive of a cycle: its events, attestations, result, instructions and finality."""
    # Imported here, so that `verify` doesn't wait for an HTTP client.
    from compliance.crypto.keys import SigningKey
    from gateway.federation.http.client import RemoteError

    try:
        signing_key = SigningKey.load(key)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--key") from error
    target = out or Path(f"{cycle}.zip")
    try:
        with whole_file(target) as file:
            asyncio.run(_download(cycle, coordinator.rstrip("/"), coordinator_bic, client, signing_key, file))
    except RemoteError as error:
        typer.echo(f"concordat: {explained(error)}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{shown(target)}: {target.stat().st_size:,} bytes")


def verify(
    file: Annotated[
        Path,
        typer.Argument(
            help="The archive that `concordat export` wrote, or what `concordat participant position` did.",
            show_default=False,
        ),
    ],
    trust: Annotated[
        Path,
        typer.Option(
            envvar="CONCORDAT_ANCHOR", help="The trust anchor: the coordinator's pinned keys.", show_default=False
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Check an export offline: every signature, and everything that follows from what was signed computed again.

    Of a pair that a bank shows by itself: its signature, and that the statement stands under it.

    Exit code 0: verified; 1: not verified; 2: a file can't be read.
    """
    from compliance.trust import Anchor, AnchorError
    from compliance.verifier.verify import STEPS, StepReport, VerificationError, verify_export

    beginning = _beginning(file)
    if beginning[:1] == b"{":
        _verify_position(file, trust, as_json=as_json)
        return
    if beginning[:4] == b"PK\3\4" and beginning[30:] == b"events.csv":
        typer.echo(
            f"concordat: can't read: {shown(file)} is an archive of a bank's journal, and not of a cycle:"
            " `concordat participant journal-attach` of that bank checks it",
            err=True,
        )
        raise typer.Exit(NOT_READABLE)

    def show(step: StepReport) -> None:
        if not as_json:
            typer.echo(f"✓ {step.number:>2} {step.title}: {shown(step.detail)}")

    try:
        report = verify_export(file, Anchor.read(trust), on_step=show)
    except VerificationError as error:
        if as_json:
            refuted = {"step": error.step, "finding": error.finding, "detail": error.detail}
            typer.echo(_json({"verified": False, **refuted}))
        else:
            typer.echo(f"✗ {error.step:>2} {STEPS[error.step - 1]}: {shown(error.detail)} ({error.finding})")
            typer.echo(f"NOT VERIFIED: {shown(file)}")
        raise typer.Exit(NOT_VERIFIED) from error
    except (OSError, AnchorError) as error:
        typer.echo(f"concordat: can't read: {shown(error)}", err=True)
        raise typer.Exit(NOT_READABLE) from error
    if as_json:
        typer.echo(_json({"verified": True, **msgspec.structs.asdict(report)}))
        return
    if report.state != FINAL:
        typer.echo(f"·    This cycle isn't final: it is {shown(report.state)}")
    for sentence in report.unproven:
        typer.echo(f"·    Not proven by this archive: {shown(sentence)}")
    said = f"cycle {shown(report.cycle)}, {shown(report.state)}, sha256 {report.sha256}"
    typer.echo(f"VERIFIED: {shown(file)} ({said})")


def _beginning(file: Path) -> bytes:
    """Return as much of a file as tells what it is: JSON of one pair, or a ZIP, and of what its first file is."""
    try:
        with file.open("rb") as opened:
            return opened.read(40)
    except OSError:
        return b""


def _verify_position(file: Path, trust: Path, *, as_json: bool) -> None:
    """Check what a bank shows of one pair, say so, and leave with the exit code of `verify`."""
    from compliance.crypto.dsse import EvidenceError
    from compliance.position_evidence import FILE_BYTES_MAX, PositionEvidence, verify_position
    from compliance.trust import Anchor, AnchorError

    try:
        anchor = Anchor.read(trust)
        with file.open("rb") as opened:
            content = opened.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            raise OSError(f"{file} is larger than any position's evidence")
    except (OSError, AnchorError) as error:
        typer.echo(f"concordat: can't read: {shown(error)}", err=True)
        raise typer.Exit(NOT_READABLE) from error
    try:
        verified = verify_position(msgspec.json.decode(content, type=PositionEvidence), anchor)
    except (EvidenceError, AnchorError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        finding = error.reason.value if isinstance(error, EvidenceError) else "malformed"
        if as_json:
            typer.echo(_json({"verified": False, "finding": finding, "detail": str(error)}))
        else:
            typer.echo(f"NOT VERIFIED: {shown(file)}: {shown(error)} ({shown(finding)})")
        raise typer.Exit(NOT_VERIFIED) from error
    bank, statement = verified.attestation.participant, verified.statement
    if verified.both:
        who, unproven = " and ".join(statement.pair), "that it was settled"
        keys = f"that their keys count still: trust list {verified.trust_list} names them, and a later one may not"
    else:
        who, unproven = bank, f"that {bank} signed no later revision; what the other bank signed"
        keys = f"that its key counts still: trust list {verified.trust_list} names it, and a later one may not"
    if as_json:
        said: dict[str, Any] = {"verified": True, "participant": bank, "both": verified.both}
        said |= {"trust_list": verified.trust_list, "unproven": [unproven, keys]}
        typer.echo(_json({**said, "statement": msgspec.to_builtins(statement)}))
        return
    for flow in statement.flows:
        payments = "1 payment" if flow.count == 1 else f"{flow.count} payments"
        sums = f"{payments}, {flow.amount_minor} minor units of {statement.currency}"
        typer.echo(f"{flow.sender} to {flow.receiver}: {sums}, numbers {flow.first_sequence} to {flow.last_sequence}")
    typer.echo(f"·    Not proven by this: {unproven}")
    typer.echo(f"·    Nor {keys}")
    typer.echo(f"VERIFIED: {who} attested this in cycle {statement.cycle}, revision {statement.revision}")


def register(app: typer.Typer) -> None:
    """Add both commands to the application."""
    app.command()(export)
    app.command()(verify)


def _json(value: dict[str, Any]) -> str:
    """Return JSON in ASCII, in which whatever a terminal might obey is escaped."""
    return json.dumps(msgspec.to_builtins(value))


async def _download(cycle: str, url: str, bic: str, client_id: str, key: SigningKey, file: BinaryIO) -> None:
    from compliance.export.archive import ARCHIVE_BYTES_MAX
    from gateway.federation.http.client import FederationClient

    async with FederationClient(client_id, key, url) as client:
        await client.request(
            "GET",
            f"{url}/cycles/{cycle}/export",
            audience=bic,
            timeout_s=DOWNLOAD_TIMEOUT_S,
            answer_bytes_max=ARCHIVE_BYTES_MAX,
            sink=file.write,
        )
