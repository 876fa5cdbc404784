"""`concordat participant fsck`: check the ledger of a node, and say so."""

from __future__ import annotations

import asyncio

from compliance.terminal import shown
from gateway.federation.settings import NodeSettings
from participants.audit.fsck import fsck
from participants.ledger import DATABASE, MIGRATIONS


def run_fsck(settings: NodeSettings) -> int:
    """Check a node's ledger, print a table of the checks, and return the exit code: 0 if all is proved, else 1."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from gateway.federation.commands.own_database import own_database

    console = Console()
    with own_database(settings, DATABASE, MIGRATIONS) as url:
        report = asyncio.run(fsck(url, settings.bic))
    table = Table(title=f"Ledger of {settings.bic}", title_justify="left")
    for heading in ("check", "", "examined", "what it proves, or the first difference"):
        table.add_column(heading, justify="right" if heading == "examined" else "left")
    for check in report.checks:
        verdict = "[green]ok[/]" if check.ok else "[red bold]FAILED[/]"
        table.add_row(check.name, verdict, f"{check.examined:,}", escape(shown(check.difference or check.proves)))
    console.print(table)
    return 0 if report.ok else 1
