"""The command `concordat`.

Each sub-command lives with what it runs and is imported when it is called: the console and the verifier start fast
because they never load a web framework or a database.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer
import typer.main

from gateway.federation.commands.group import Group


@dataclass(frozen=True)
class Source:
    """Where a sub-command is defined: a module with `app` (a Typer) or `register(app)`."""

    module: str
    help: str


COMMANDS: dict[str, Source] = {
    "coordinator": Source("gateway.coordinator.cli", "Run the clearing house."),
    "participant": Source("participants.cli", "Run a bank's node."),
    "agent": Source("gateway.agent.cli", "Run the settlement agent."),
    "login": Source("gateway.federation.commands.login", "Sign in by your own key, and keep where and as whom."),
    "token": Source("gateway.federation.commands.login", "Print a fresh access token, for curl."),
    "console": Source("tui.cli", "Watch the clearing house live and, with --operate, run it."),
    "decide": Source("gateway.federation.commands.decide", "Propose, confirm and reject as an operator."),
    "export": Source("gateway.federation.commands.audit", "Write the signed archive of a cycle."),
    "verify": Source(
        "gateway.federation.commands.audit", "Check an export offline: every signature, and the netting again."
    ),
    "net": Source("gateway.analysis.cli", "Net the obligations of a file, and say why a bank's net is what it is."),
    "gridlock": Source(
        "gateway.analysis.gridlock", "Choose the queued payments of a file that settle now, and prove the choice."
    ),
    "clear": Source(
        "gateway.analysis.clear", "Clear the debts of a file against each other, and prove no more can be."
    ),
    "advise": Source(
        "gateway.analysis.advise", "Say how many cycles a day would have suited the obligations of a file."
    ),
    "statements": Source("participants.statements.cli", "Read statements of correspondents and core systems."),
    "reconcile": Source(
        "participants.matching.cli", "Compare two files of payments, and say what breaks between them."
    ),
    "demo": Source("gateway.demo.cli", "Run a whole clearing day on this machine."),
}


BY_PROFILE = ("participant", "console", "decide", "export")
"""What takes from a profile where and as whom it signs in, if it isn't told."""


class LazyGroup(Group):
    """Knows the names and one line of help of all sub-commands, and loads the one that is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in BY_PROFILE:
            from gateway.federation.commands import profiles

            profile = profiles.find()
            ctx.default_map = None if profile is None else profile.defaults()
        if args and args[0] in COMMANDS:
            self.add_command(load(args[0]), args[0])
        return super().resolve_command(ctx, args)


def load(name: str) -> Any:
    """Import a sub-command and return it as a command."""
    module = importlib.import_module(COMMANDS[name].module)
    if hasattr(module, "register"):
        alone = typer.Typer(rich_markup_mode=None)
        # With a callback a Typer stays a group, even around a single command.
        alone.callback()(_nothing)
        module.register(alone)
        return typer.main.get_group(alone).commands[name]
    return typer.main.get_command(module.app)


def _nothing() -> None:
    pass


def _show_version(asked: bool) -> None:
    if asked:
        from gateway.federation.build import build

        typer.echo(f"concordat {build()}")
        raise typer.Exit


def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    pass


app = typer.Typer(
    name="concordat",
    help="A federated clearing gateway: banks keep their ledgers, sign what they owe, net it and settle it.",
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.callback()(_root)
for _name, _source in COMMANDS.items():
    app.command(_name, help=_source.help)(_nothing)


def main() -> None:
    """Run the command line.

    A wrong setting, a file that can't be read or written, and a database that fails end it with one line on standard
    error and code 2; a defect shows its traceback.
    """
    try:
        app()
    except Exception as error:
        what = _trouble(error)
        if what is None:
            raise
        print(f"concordat: {what}", file=sys.stderr)
        raise SystemExit(2) from None


def _trouble(error: Exception) -> str | None:
    """Say what is the matter outside of the program; None for a defect of it."""
    from compliance.terminal import shown
    from gateway.federation.settings import ConfigurationError

    if isinstance(error, ConfigurationError):
        return shown(error)
    if isinstance(error, OSError) and error.filename is not None:
        return shown(f"{error.filename}: {error.strerror}")
    # Imported late: what `verify` finds needs no database.
    from gateway.federation.storage.failures import database_refusal, failure_of

    reason = failure_of(error)
    if reason is not None:
        return shown(f"{database_refusal(reason).detail}: {str(error) or type(error).__name__}")
    return shown(error.strerror or error) if isinstance(error, OSError) else None


if __name__ == "__main__":
    main()
