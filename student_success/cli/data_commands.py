"""Commands on pupils' data: score whole files, write OneRoster files, erase a session."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from student_success.cli.context import open_database, open_settings, require_extra
from student_success.cli.output import ExitCode, Json, MappingFile, print_json
from student_success.core.configuration.bento_home import use_bento_store
from student_success.core.errors import ConflictError, DatasetError
from student_success.core.state_files import narrow, private_folder

_MOST_ROWS = 1 << 20


def score(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            resolve_path=True,
            help="CSV (also .gz, .zst), Parquet or spreadsheet file, or folder.",
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", resolve_path=True, help="File (its ending names the format), or folder."
        ),
    ],
    engine: Annotated[
        Literal["local", "dask"], typer.Option(help="Processes of this machine, or a cluster.")
    ] = "local",
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Dask scheduler, e.g. tcp://host:8786."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of processes; one for each core if empty.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A deployed version, `seed`, or a folder; the served one if empty."),
    ] = None,
    with_inputs: Annotated[bool, typer.Option(help="Repeat the columns of the input.")] = False,
    to: Annotated[
        Literal["csv", "parquet"] | None, typer.Option(help="Format of the output of a folder.")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Of CSV files; recognised by the content if empty.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace OUT if it exists.")] = False,
    mapping: MappingFile = None,
    without_grades: Annotated[
        bool, typer.Option(help="Predict although grades are not recognised in a file.")
    ] = False,
    record: Annotated[
        str | None,
        typer.Option(metavar="SESSION", help="Record the predictions in the history, once."),
    ] = None,
    strict: Annotated[bool, typer.Option(help="Exit with 1 if a row could not be scored.")] = False,
) -> None:
    """Predict whole files of pupils, larger than memory too; exit with 2 if there are none.

    In a folder, files that were finished before are skipped.
    """
    require_extra("scale", "pyarrow", "tqdm")
    from student_success.bulk.executors import leave_pandas_out
    from student_success.bulk.files import ScoreOptions
    from student_success.bulk.run import score as score_files
    from student_success.domain.tables.reader import read_choices

    leave_pandas_out()
    # Workers of a Dask cluster may run as other users and share the folder of the output.
    settings = open_settings(private=False)
    choices = read_choices(mapping, without_grades=without_grades)
    options = ScoreOptions(
        input=source,
        output=target,
        engine=engine,
        scheduler=scheduler,
        workers=workers,
        model=model,
        with_inputs=with_inputs,
        to=to,
        overwrite=overwrite,
        record=record,
        choices=replace(choices, encoding=encoding or choices.encoding),
    )
    private_folder(use_bento_store(settings))
    try:
        result = score_files(settings, options)
    except KeyboardInterrupt:
        typer.echo(
            "Interrupted. Finished files are kept; run the same command again for the others.",
            err=True,
        )
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    finally:
        narrow(settings.state_dir)
    typer.echo(result.text)
    if not result.scored:
        raise typer.Exit(ExitCode.USAGE)
    if strict and result.rejected:
        raise typer.Exit(ExitCode.FAILED)


def oneroster(
    source: Annotated[
        Path,
        typer.Argument(metavar="PREDICTIONS", resolve_path=True, help="What `score` wrote."),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", resolve_path=True, help="ZIP file to write.")
    ],
    line_item: Annotated[str, typer.Option(help="sourcedId of the line item to make.")],
    class_id: Annotated[str, typer.Option("--class", help="sourcedId of its class.")],
    category: Annotated[str, typer.Option(help="sourcedId of its category.")],
    period: Annotated[str, typer.Option(help="sourcedId of its grading period.")],
    title: Annotated[str, typer.Option(help="Its title.")] = "Predicted grade",
) -> None:
    """Write predictions as the results of a OneRoster 1.1 line item; references are sourcedIds."""
    from student_success.domain.students import PREDICTED
    from student_success.domain.tables.cells import parse_reference
    from student_success.domain.tables.columns import REFERENCE, Column, reference_column
    from student_success.domain.tables.oneroster import write_oneroster
    from student_success.domain.tables.reader import read_bytes, read_table

    open_settings(private=False)
    columns = (
        replace(reference_column(), required=True),
        Column(PREDICTED, (PREDICTED, "estimated grade", "note estimée"), required=True),
    )
    table = read_table(read_bytes(source), columns, max_rows=_MOST_ROWS)
    if problems := (*table.columns.problems, *table.invalid):
        raise DatasetError(f"{source.name} cannot be used: {' '.join(map(str, problems))}")
    named: dict[str, str] = {}
    for line, cells in table.rows:
        row = table.texts(cells)
        reference = parse_reference(row[REFERENCE])
        if reference in named:
            raise DatasetError(
                f"{target.name} was not written: line {line} of {source.name} has the reference of "
                "a row above it. Keep one row of each pupil."
            )
        if reference:
            named[reference] = row[PREDICTED].replace(",", ".")
    content = write_oneroster(
        named.items(),
        line_item=line_item,
        title=title,
        class_id=class_id,
        category=category,
        period=period,
    )
    try:
        with target.open("xb") as file:
            file.write(content)
    except FileExistsError:
        raise ConflictError(f"{target.name} exists already and was not changed.") from None
    left = len(table.rows) - len(named)
    typer.echo(f"{target.name}: {len(named)} results; {left} rows have no reference.")


def erase(
    session: Annotated[str, typer.Argument(help="Name of the session.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    *,
    as_json: Json = False,
) -> None:
    """Erase a session's predictions and outcomes for good."""
    from student_success.storage.engine import connect
    from student_success.storage.inference_log.history import History

    settings = open_settings()
    if not yes:
        typer.confirm(f"Erase every prediction and outcome of session {session}?", abort=True)
    with open_database(settings):
        pass
    history = History(connect(settings.database, synchronous=settings.history_synchronous))
    try:
        erased = history.erase_session(session)
    finally:
        history.close()
    if as_json:
        return print_json({"session_id": session, "erased": erased})
    typer.echo(f"{erased} predictions of session {session} were erased.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (score, oneroster, erase):
        app.command(rich_help_panel="Data")(command)
