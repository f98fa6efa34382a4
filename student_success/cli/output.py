"""Exit codes, and what commands print: tables, progress, JSON, errors.

Results go to standard output. Progress and errors go to standard error.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from student_success.core.configuration.settings import setting_problems
from student_success.core.errors import StudentSuccessError

_PIPE_WIDTH = 160
"""Width of tables in characters where no terminal says how wide it is."""


class ExitCode(IntEnum):
    """What the exit code of a command means; documented in the help of the command line."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    UNAVAILABLE = 4
    INTERRUPTED = 130


MappingFile = Annotated[
    Path | None,
    typer.Option(resolve_path=True, help="TOML file that says what the columns hold."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, for scripts.")]


def exit_code(error: StudentSuccessError) -> ExitCode:
    """Return the exit code for an error, by its HTTP status."""
    if error.status == 503:
        return ExitCode.UNAVAILABLE
    if error.status in (404, 409):
        return ExitCode.REFUSED
    if error.status in (400, 422) or error.code == "configuration_error":
        return ExitCode.USAGE
    return ExitCode.FAILED


def print_json(value: Any) -> None:
    """Print one JSON document."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their column titles; None is an empty cell."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        # Cells may hold text of others, in which square brackets are no markup.
        table.add_row(*(escaped(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False).print(table)


def escaped(value: object) -> str:
    """Write a value for a cell."""
    from rich.markup import escape

    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return escape(f"{value:.3f}" if isinstance(value, float) else str(value))


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Callable[[float, str], None]]:
    """Show a progress bar on a terminal; yield what to call with the share done and a text.

    Without a terminal nothing is shown.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as progress:
        task = progress.add_task(title, total=1.0)

        def advance(share: float, text: str) -> None:
            progress.update(task, completed=share, description=text or title)

        yield advance


def run_app(app: typer.Typer, arguments: list[str], *, prog: str) -> int:
    """Run one command; print an error without a traceback, and return the exit code."""
    try:
        app(args=arguments, prog_name=prog)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except StudentSuccessError as error:
        if "--json" in arguments:
            typer.echo(json.dumps(error.to_json()), err=True)
        else:
            # A problem that the message repeats is printed once.
            details = (d for d in error.details if d.get("problem", "\0") not in error.message)
            _print_error(error.message, map(_line, details))
        return exit_code(error)
    except ValidationError as error:
        # By name only: a value may be a token.
        _print_error("the settings are not valid.", setting_problems(error))
        return ExitCode.USAGE
    except Exception as error:
        # A child's traceback goes to the log of the service; people see one if they ask for it.
        if _is_child(arguments) or os.environ.get("LOG_LEVEL") == "DEBUG":
            raise
        reason = str(error) if isinstance(error, OSError) else type(error).__name__
        _print_error(f"unexpected failure ({reason}). Set LOG_LEVEL=DEBUG to see the traceback.")
        return ExitCode.FAILED
    return ExitCode.DONE


def _is_child(arguments: list[str]) -> bool:
    return arguments[:1] in (["child"], ["run"], ["compare"])


def _print_error(message: str, lines: Iterable[str] = ()) -> None:
    typer.echo(f"Error: {message}", err=True)
    for line in lines:
        typer.echo(f"  {line}", err=True)


def _line(detail: Mapping[str, Any]) -> str:
    """Return one detail of an error as a line: the place, then the problem."""
    place = ", ".join(f"{key} {value}" for key, value in detail.items() if key != "problem")
    return f"{place}: {detail['problem']}" if "problem" in detail else place
