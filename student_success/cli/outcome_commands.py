"""Commands for the grades really obtained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from student_success.cli.context import open_database, open_settings
from student_success.cli.output import ExitCode, Json, MappingFile, print_json

app = typer.Typer(name="outcomes", no_args_is_help=True, help="Grades really obtained.")


@app.command(name="import")
def import_file(
    file: Annotated[
        Path,
        typer.Argument(
            resolve_path=True,
            help="Table with a reference or a prediction id, and the final grade, in each row.",
        ),
    ],
    session: Annotated[
        str | None, typer.Option(help="Session of the references, if no column holds it.")
    ] = None,
    mapping: MappingFile = None,
    correct: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="Replace grades that are recorded already; the reason and the old grade are kept.",
        ),
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Record final grades from a CSV file or a spreadsheet; a rejected row does not stop others."""
    from student_success.domain.tables.outcomes import read_outcomes
    from student_success.domain.tables.reader import read_bytes, read_choices
    from student_success.storage.outcomes import Outcomes

    settings = open_settings()
    found = read_outcomes(read_bytes(file), read_choices(mapping), session=session)
    rejected = [
        {"line": problem.line, "error": problem.code, "message": str(problem)}
        for problem in found.invalid
    ]
    accepted = 0
    if found.outcomes:
        with open_database(settings) as engine:
            outcomes = Outcomes(engine, year_starts=settings.school_year_starts)
            correction = {} if correct is None else {"correct": True, "reason": correct}
            answer = outcomes.record(
                [outcome.model_copy(update=correction) for _, outcome in found.outcomes]
            )
        accepted = answer.accepted
        for one in answer.rejected:
            line = found.outcomes[one.index][0]
            rejected.append(
                {"line": line, "error": one.error, "message": f"line {line}: {one.message}"}
            )
    if as_json:
        print_json(
            {"accepted": accepted, "without_grade": found.without_grade, "rejected": rejected}
        )
    else:
        typer.echo(f"{accepted} grades were recorded; {found.without_grade} rows have none yet.")
        for entry in rejected:
            typer.echo(f"Not recorded: {entry['message']}", err=True)
    if rejected and not accepted:
        raise typer.Exit(ExitCode.USAGE)
