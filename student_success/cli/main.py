"""The command line `student-success`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

import typer
from pydantic import ValidationError

from student_success.cli import child_commands, data_commands, model_commands, server_commands
from student_success.cli.output import ExitCode, exit_code, print_error, print_invalid_settings
from student_success.core.errors import StudentSuccessError

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
app.add_typer(child_commands.app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code, see `ExitCode`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(args=given, prog_name="student-success")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except StudentSuccessError as error:
        if "--json" in given:
            typer.echo(json.dumps(error.to_json()), err=True)
        else:
            print_error(error.message, error.details)
        return exit_code(error)
    except ValidationError as error:
        print_invalid_settings(error)
        return ExitCode.USAGE
    except Exception as error:
        # The log of the service shows where a child failed; people see the traceback if they ask.
        if given[:1] == ["child"] or os.environ.get("LOG_LEVEL") == "DEBUG":
            raise
        reason = str(error) if isinstance(error, OSError) else type(error).__name__
        print_error(f"unexpected failure ({reason}). Set LOG_LEVEL=DEBUG to see the traceback.")
        return ExitCode.FAILED
    return ExitCode.DONE


def run() -> None:
    """Run the command line of this process."""
    sys.exit(main())
