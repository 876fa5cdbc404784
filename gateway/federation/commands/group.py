"""A group of commands, with help in plain text: what draws frames around it takes longer to load than all the rest."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup


class Group(TyperGroup):
    """Lists its commands with a whole line of help each."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands and what they do."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, command.get_short_help_str(limit=1_000)) for name, command in commands if command]
            )


def group(name: str, text: str) -> typer.Typer:
    """Return a group of commands."""
    return typer.Typer(
        name=name, help=text, cls=Group, no_args_is_help=True, rich_markup_mode=None, add_completion=False
    )
