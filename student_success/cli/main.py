"""The command line `student-success`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from student_success.cli import (
    child_commands,
    data_commands,
    model_commands,
    outcome_commands,
    profile_commands,
    server_commands,
    training_commands,
)
from student_success.cli.output import run_app

app = typer.Typer(
    name="student-success",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Predict pupils' final grades, and keep the model's life under control.",
    epilog="Exit codes: 0 done; 1 failed, or `verify` found a changed record; 2 wrong arguments, "
    "settings or data; 3 refused, busy or not found; 4 database or registry unavailable, try "
    "again; 130 interrupted.",
)
server_commands.register(app)
model_commands.register(app)
data_commands.register(app)
training_commands.register(app)
app.add_typer(profile_commands.app, rich_help_panel="Data")
app.add_typer(outcome_commands.app, rich_help_panel="Data")
app.add_typer(child_commands.app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code, see `ExitCode`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return run_app(app, given, prog="student-success")


def run() -> None:
    """Run the command line of this process."""
    sys.exit(main())
