"""Commands that make data and models; `python -m training` runs them as well.

`run` and `compare` report in JSON lines on standard output: the service runs them as children.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from student_success.cli.context import open_settings, require_extra
from student_success.cli.output import MappingFile, progress_bar, run_app
from student_success.core.configuration.settings import Settings
from student_success.core.errors import ConfigurationError
from student_success.core.paths import IS_CHECKOUT, ROOT
from student_success.core.subprocesses import bind_to_parent, report_to_parent, write_event
from training import commands

SourceFolder = Annotated[
    Path | None,
    typer.Option("--from", resolve_path=True, help="Folder with local copies of the UCI files."),
]
Target = Annotated[Path | None, typer.Option(resolve_path=True, help="Target file or folder.")]
ServingFolder = Annotated[Path, typer.Option(resolve_path=True, help="Folder of an artefact.")]
Table = Annotated[Path, typer.Argument(resolve_path=True)]

app = typer.Typer(
    name="training",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From pupils' data to a model that may be promoted.",
)


@app.command()
def prepare(
    source: SourceFolder = None,
    to: Target = None,
    url: Annotated[str | None, typer.Option(help="Another address of the UCI archive.")] = None,
) -> None:
    """Download the two UCI files, or read local copies, and merge them into `final.csv`."""
    settings = _settings(private=_in_state_folder(to))
    from training.data import prepare as uci

    target = to or settings.data_dir / "final.csv"
    prepared = uci.prepare(source_dir=source, destination=target, url=url or uci.UCI_URL)
    published = "as published" if prepared.as_published else "NOT byte for byte those published"
    typer.echo(f"{prepared.path}: {prepared.rows} pupils, SHA-256 {prepared.sha256}")
    typer.echo(f"Source files: {published}.")


@app.command()
def sample(to: Target = None) -> None:
    """Generate the synthetic sample, identical to the file that ships with the project."""
    settings = _settings(private=_in_state_folder(to))
    from training.data.sample import write

    path = to or settings.data_dir / "sample.csv"
    typer.echo(f"{path}: {write(path)} synthetic pupils")


@app.command()
def dictionary(to: Target = None) -> None:
    """Write the data dictionary from the features."""
    _settings(private=False)
    from training.data.dictionary import write

    typer.echo(f"{write(to)}: written")


@app.command()
def seed() -> None:
    """Train the seed model on the real data, into the folder `SEED_MODEL_PATH`."""
    settings = _settings(private=False)
    if not IS_CHECKOUT and settings.seed_model_path.is_relative_to(ROOT):
        raise ConfigurationError(
            "No seed model was made: it would replace the one of the installed package. Set "
            "SEED_MODEL_PATH to another folder."
        )
    with progress_bar("training") as advance:
        from training.train import make_seed

        model = make_seed(settings, progress=advance)
    typer.echo(
        f"{model.serving}: {model.best_model}, MAE {model.test_mae:.3f} and R² {model.test_r2:.3f} "
        f"with both period grades, in {model.duration_seconds:.0f} s"
    )


@app.command()
def report(
    source: SourceFolder = None,
    to: Target = None,
    quick: Annotated[bool, typer.Option(help="One repeat of each protocol.")] = False,
) -> None:
    """Measure the model at length on the real data, and write `model-report.md`."""
    require_extra("dev", "matplotlib")
    settings = _settings(private=False)
    if to is None and not IS_CHECKOUT:
        raise ConfigurationError("No report was written: name a folder for it with --to.")
    from training.report.report import write

    path = write(settings, to or ROOT / "docs", uci=source, quick=quick)
    typer.echo(f"{path}: written")


@app.command(hidden=True)
def run(
    family: Annotated[str | None, typer.Option(help="Try only this family of models.")] = None,
    budget_seconds: Annotated[float | None, typer.Option(help="Time limit of the search.")] = None,
    champion: Annotated[
        Path | None, typer.Option(resolve_path=True, help="Artefact to compare with.")
    ] = None,
    with_outcomes: Annotated[
        bool, typer.Option(help="Also learn from pupils whose final grade is known.")
    ] = False,
    scheduler: Annotated[
        str | None, typer.Option(help="Dask scheduler, e.g. tcp://host:8786.")
    ] = None,
    mapping: MappingFile = None,
) -> None:
    """Train a candidate and register it."""
    settings = _settings()
    if mapping is not None:
        settings = settings.model_copy(update={"data_mapping": mapping})
    if scheduler:
        settings = settings.model_copy(update={"train_scheduler": scheduler})
    _report_json(
        lambda progress: commands.train(
            settings,
            family=family,
            budget_seconds=budget_seconds,
            champion=champion,
            with_outcomes=with_outcomes,
            progress=progress,
        ),
        settings,
        patient=True,
    )


@app.command(hidden=True)
def compare(candidate: ServingFolder, champion: ServingFolder) -> None:
    """Evaluate a candidate against another champion."""
    settings = _settings()
    _report_json(
        lambda _: commands.compare(settings, candidate=candidate, champion=champion), settings
    )


@app.command("check-table", hidden=True)
def check_table(table: Table, mapping: MappingFile = None) -> None:
    """Check a table of pupils against the profile of this process."""
    _report_json(lambda _: commands.check_table(table, mapping), _settings(private=False))


@app.command("draft-profile", hidden=True)
def draft_profile(
    table: Table,
    destination: Table,
    target: Annotated[str, typer.Option()],
    pass_mark: Annotated[float | None, typer.Option()] = None,
    better: Annotated[str | None, typer.Option()] = None,
    overwrite: Annotated[bool, typer.Option()] = False,
) -> None:
    """Propose a profile for a table of pupils."""
    _report_json(
        lambda _: commands.draft_profile(
            table,
            target=target,
            destination=destination,
            pass_mark=pass_mark,
            better=better,
            overwrite=overwrite,
        ),
        _settings(private=False),
    )


def _in_state_folder(to: Path | None) -> bool:
    """Return whether prepared data is written to the state directory, not for other users."""
    return to is None and not IS_CHECKOUT


def _settings(*, private: bool = True) -> Settings:
    # Before the slow imports: a parent that ends during them must take its child along.
    bind_to_parent()
    require_extra("train", "sklearn", "skops")
    return open_settings(private=private)


def _report_json(
    command: Callable[[commands.Progress], commands.Facts],
    settings: Settings,
    *,
    patient: bool = False,
) -> None:
    from student_success.core.logging import configure

    with report_to_parent(background=patient) as stream:
        configure(settings)
        facts = command(
            lambda share, step: write_event(stream, "progress", share=round(share, 3), doing=step)
        )
        write_event(stream, "result", **facts)


def register(main_app: typer.Typer) -> None:
    """Add the commands for people to the main command line."""
    for command in (prepare, sample, dictionary, seed, report):
        main_app.command(rich_help_panel="Data")(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command of `python -m training`; return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return run_app(app, given, prog="python -m training")
