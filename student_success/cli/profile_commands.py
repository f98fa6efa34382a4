"""Commands on the profile of a school: propose one for a table, and check it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from student_success.cli.context import require_extra
from student_success.cli.output import Json, MappingFile, print_json
from student_success.core.errors import DatasetError
from student_success.core.paths import SHIPPED_PROFILE, enter_root

TIMEOUT_SECONDS = 600.0
MEMORY_MB = 8192

ProfileFile = Annotated[
    Path, typer.Argument(metavar="PROFILE", resolve_path=True, help="TOML file, see docs.")
]

app = typer.Typer(
    name="profile",
    no_args_is_help=True,
    help="What is particular to your school, in one file: propose it, check it.",
)


@app.command()
def check(
    profile: ProfileFile,
    table: Annotated[
        Path | None,
        typer.Argument(metavar="[TABLE]", resolve_path=True, help="Table of pupils to train on."),
    ] = None,
    mapping: MappingFile = None,
    json_output: Json = False,
) -> None:
    """Name every mistake of a profile, and every bad cell of a table of pupils."""
    from student_success.domain.profile_file import read_profile

    checked = read_profile(profile)
    facts: dict[str, Any] = {
        "name": checked.name,
        "features": len(checked.feature),
        "periods": [period.column for period in checked.period],
        "warnings": list(checked.warnings),
    }
    if table is not None:
        options = [] if mapping is None else [f"--mapping={mapping}"]
        facts["table"] = _run("check-table", str(table), *options, profile=profile)
        facts["warnings"] += facts["table"].pop("remarks")
    if json_output:
        print_json(facts)
        return
    for warning in facts["warnings"]:
        typer.echo(f"Warning: {warning}", err=True)
    grade = checked.grade
    typer.echo(
        f"{profile.name}: {checked.name} predicts {grade.column} ({grade.minimum:g} to "
        f"{grade.maximum:g} in steps of {grade.step:g}, pass mark {grade.pass_mark:g}) from "
        f"{facts['features']} features and {len(checked.period)} earlier grades."
    )
    if table is not None:
        typer.echo(f"{table.name}: {facts['table']['rows']} pupils can be trained on.")


@app.command()
def draft(
    table: Annotated[
        Path, typer.Argument(metavar="TABLE", resolve_path=True, help="Table of pupils.")
    ],
    target: Annotated[str, typer.Option(help="Title of the column with the final grade.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", resolve_path=True, help="The profile to write.")
    ],
    pass_mark: Annotated[
        float | None, typer.Option(help="Lowest grade that passes; guessed if empty.")
    ] = None,
    better: Annotated[
        Literal["higher", "lower"] | None,
        typer.Option(help="Which grades are the better ones; guessed if empty."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace the profile if it exists.")] = False,
) -> None:
    """Propose a profile for a table of pupils; each guess has its reason as a comment."""
    options = [f"--target={target}"]
    options += [] if pass_mark is None else [f"--pass-mark={pass_mark}"]
    options += [] if better is None else [f"--better={better}"]
    options += ["--overwrite"] if overwrite else []
    # The profile in use may be broken, or be the one to write.
    _run("draft-profile", str(table), str(output), *options, profile=SHIPPED_PROFILE)
    typer.echo(f"{output}: written. Read it, and correct the guesses that are wrong.")
    try:
        check(output, table)
    except DatasetError as error:
        raise DatasetError(
            f"The profile was written, but the table does not fit it yet. {error.message}",
            details=error.details,
        ) from error


def _run(*arguments: str, profile: Path) -> dict[str, Any]:
    """Run a training command in a process of its own, which works with that profile.

    Raises
    ------
    StudentSuccessError
        The error that the command reported.
    """
    from student_success.core import subprocesses

    require_extra("train", "sklearn", "skops")
    enter_root()
    try:
        return asyncio.run(
            subprocesses.run(
                *("-m", "training", *arguments),
                timeout=TIMEOUT_SECONDS,
                memory_mb=MEMORY_MB,
                environment={"PROFILE_PATH": str(profile)},
            )
        )
    except subprocesses.ChildFailure as error:
        raise DatasetError(f"The table was not checked: the check {error}.") from error
