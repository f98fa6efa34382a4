"""Commands on data: score whole files, prepare and make training data, report, erase."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Annotated, Literal

import typer

from student_success.cli.context import (
    open_database,
    open_settings,
    require_extra,
    set_bentoml_environment,
)
from student_success.cli.output import ExitCode, Json, print_json, progress_bar
from student_success.core.errors import ConfigurationError
from student_success.core.settings import IS_CHECKOUT, ROOT, Settings

SourceFolder = Annotated[
    Path | None,
    typer.Option("--from", resolve_path=True, help="Folder with local copies of the UCI files."),
]


def score(
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", resolve_path=True, help="CSV or Parquet file, or folder."),
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
        str | None, typer.Option(help="Of CSV files; UTF-8, else Windows-1252, if empty.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace OUT if it exists.")] = False,
) -> None:
    """Predict whole files of pupils, larger than memory too; an interrupted run is continued."""
    from student_success.bulk.command import score as score_files

    settings = open_settings()
    options = argparse.Namespace(
        input=source,
        output=target,
        engine=engine,
        scheduler=scheduler,
        workers=workers,
        model=model,
        with_inputs=with_inputs,
        to=to,
        encoding=encoding,
        overwrite=overwrite,
    )
    try:
        typer.echo(
            score_files(settings, options, prepare=lambda: set_bentoml_environment(settings))
        )
    except KeyboardInterrupt:
        typer.echo("Interrupted; run the same command again to continue.", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def prepare(
    source: SourceFolder = None,
    to: Annotated[Path | None, typer.Option(resolve_path=True, help="Target file.")] = None,
    url: Annotated[str | None, typer.Option(help="Another address of the UCI archive.")] = None,
) -> None:
    """Download the two UCI files, or take local copies, and merge them into `final.csv`."""
    settings = _training_settings()
    from training.data.prepare import UCI_URL
    from training.data.prepare import prepare as prepare_data

    done = prepare_data(
        source_dir=source, destination=to or settings.data_dir / "final.csv", url=url or UCI_URL
    )
    published = "as published" if done.as_published else "NOT byte for byte those published"
    typer.echo(f"{done.path}: {done.rows} pupils, SHA-256 {done.sha256}")
    typer.echo(f"Source files: {published}.")


def sample(
    to: Annotated[Path | None, typer.Option(resolve_path=True, help="Target file.")] = None,
) -> None:
    """Make the synthetic sample again, byte for byte."""
    settings = _training_settings()
    from training.data.sample import write

    path = to or settings.data_dir / "sample.csv"
    typer.echo(f"{path}: {write(path)} synthetic pupils")


def seed() -> None:
    """Train the seed model on the real data, into the folder `SEED_MODEL_PATH`."""
    settings = _training_settings()
    if not IS_CHECKOUT and settings.seed_model_path.is_relative_to(ROOT):
        raise ConfigurationError(
            "No seed model was made: it would replace the one inside the installed package. Set "
            "SEED_MODEL_PATH to a folder of your own."
        )
    from training.train import make_seed

    with progress_bar("training") as advance:
        made = make_seed(settings, progress=advance)
    typer.echo(
        f"{made.serving}: {made.best_model}, MAE {made.test_mae:.3f} and R² {made.test_r2:.3f} "
        f"with both period grades, in {made.duration_seconds:.0f} s"
    )


def report(
    source: SourceFolder = None,
    to: Annotated[
        Path | None, typer.Option(resolve_path=True, help="Target folder; `docs` of a checkout.")
    ] = None,
    quick: Annotated[bool, typer.Option(help="One repeat of each protocol.")] = False,
) -> None:
    """Measure the model at length on the real data, and write `model-report.md`."""
    settings = _training_settings()
    if to is None and not IS_CHECKOUT:
        raise ConfigurationError("Name a folder for the report with --to.")
    from training.report.report import write

    typer.echo(f"{write(settings, to or ROOT / 'docs', uci=source, quick=quick)}: written")


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


def _training_settings() -> Settings:
    require_extra("train", "sklearn", "pandera")
    return open_settings()


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (score, prepare, sample, seed, report, erase):
        app.command(rich_help_panel="Data")(command)
