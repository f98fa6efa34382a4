"""Hidden commands that the service runs as child processes.

Each reports in JSON lines on standard output, see `student_success.core.subprocesses`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from student_success.cli.context import open_settings
from student_success.core.configuration.settings import Settings
from student_success.core.subprocesses import bind_to_parent, report_to_parent, write_event

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from student_success.storage.deployments import Deployments

Report = Callable[..., None]
Version = Annotated[int, typer.Option(min=1)]

app = typer.Typer(name="child", hidden=True, help="Commands that the service runs by itself.")


@app.callback()
def _bind() -> None:
    # Before the slow imports: a parent that ends during them must take its child along.
    bind_to_parent()


@contextlib.contextmanager
def _reporting() -> Iterator[tuple[Settings, Report]]:
    """Yield the settings and what to call with an event and its values."""
    from student_success.core.logging import configure

    settings = open_settings()
    with report_to_parent() as stream:
        configure(settings)
        yield settings, lambda event, **values: write_event(stream, event, **values)


@contextlib.contextmanager
def _with_deployments() -> Iterator[tuple[Settings, Engine, Deployments, Report]]:
    from student_success.storage.deployments import Deployments
    from student_success.storage.engine import connect

    with _reporting() as (settings, report):
        engine = connect(settings.database, synchronous="FULL")
        yield settings, engine, Deployments(engine), report


@app.command()
def promote(
    request: Annotated[str, typer.Option(help="Body of POST /promote, as JSON.")],
    actor: str = "cli",
    locked: Annotated[bool, typer.Option(help="The caller holds the locks.")] = False,
) -> None:
    """Promote a version through the gate, then move MLflow's alias."""
    with (
        _with_deployments() as (settings, engine, deployments, report),
        contextlib.ExitStack() as held,
    ):
        from student_success.domain.schemas.lifecycle import PromoteRequest
        from student_success.lifecycle import alias_sync, promotion
        from student_success.storage.locks import Operation, exclusive

        if not locked:
            held.enter_context(
                exclusive(
                    *(Operation.DEPLOYMENT, Operation.TRAINING),
                    engine=engine,
                    state_dir=settings.state_dir,
                )
            )
        result: dict[str, Any] = promotion.promote(
            settings,
            deployments,
            PromoteRequest.model_validate_json(request),
            actor=actor,
            report=lambda step: report("progress", step=step),
        )
        report("result", **result)
        # The version is promoted even if MLflow does not answer now.
        alias_sync.align_alias(settings, deployments, may_adopt=False)
        report("progress", step="aligned")


@app.command()
def align_alias(*, adopt: bool = True) -> None:
    """Make MLflow's alias and the version served agree.

    With `--no-adopt` an alias that somebody moved is moved back without a check of its version.
    """
    with _with_deployments() as (settings, _, deployments, report):
        from student_success.lifecycle import alias_sync

        alias_sync.align_alias(settings, deployments, may_adopt=adopt)
        report("result")


@app.command()
def judge(version: Version) -> None:
    """Report what the gate would decide about a version."""
    with _with_deployments() as (settings, _, deployments, report):
        from student_success.lifecycle import promotion

        report("result", **promotion.judge(settings, deployments, version))


@app.command()
def versions() -> None:
    """Report the registered versions."""
    with _reporting() as (settings, report):
        from student_success.registry import mlflow_client

        report("result", versions=mlflow_client.versions(settings))


@app.command()
def fetch(version: Version, sha256: Annotated[str, typer.Option()]) -> None:
    """Download a deployed version into the Bento store; `sha256` is of its manifest."""
    with _reporting() as (settings, report):
        from student_success.registry import versions as registry_versions

        registry_versions.fetch(settings, str(version), fingerprint=sha256)
        report("result")


@app.command("try")
def try_version(
    folder: Annotated[Path, typer.Option()], version: Annotated[str, typer.Option()]
) -> None:
    """Check a downloaded version; nothing of it is kept."""
    from student_success.registry.artefact_check import check_artefact

    settings = open_settings()
    with report_to_parent() as stream:
        fingerprint = check_artefact(folder, version=version, alarm_recall=settings.alarm_recall)
        write_event(stream, "result", fingerprint=fingerprint)
