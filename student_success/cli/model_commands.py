"""Commands on versions and deployments. They work while the server runs, and while it does not.

They take the same locks as the server and write the same database, whose newest deployment every
worker follows. What needs MLflow's library happens in a child process, as in the server.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated, Any

import typer

from student_success.cli.context import make_request, open_database, open_settings, require_extra
from student_success.cli.output import (
    ExitCode,
    Json,
    MappingFile,
    print_json,
    print_table,
    progress_bar,
)
from student_success.core.configuration.settings import Settings
from student_success.core.errors import StudentSuccessError
from student_success.registry.child_process import run_command

ACTOR = "cli"
"""Who acts, in the record of deployments."""
POLL_SECONDS = 0.5

Version = Annotated[int, typer.Argument(min=1, help="Number of the version in MLflow.")]
Reason = Annotated[str, typer.Option(help="Why; recorded with the deployment.", min=1)]
_STEPS = ("fetched", "tried", "judged", "kept", "verified", "recorded", "aligned")


def train(
    family: Annotated[str | None, typer.Option(help="Try only this family of models.")] = None,
    budget_seconds: Annotated[
        float | None, typer.Option(help="Time limit of the search; TRAIN_BUDGET_SECONDS if empty.")
    ] = None,
    mapping: MappingFile = None,
    *,
    as_json: Json = False,
) -> None:
    """Train a candidate and register it in MLflow; the version served does not change."""
    from student_success.domain.schemas.lifecycle import TrainRequest

    require_extra("train", "sklearn", "skops")
    settings = open_settings()
    if mapping is not None:
        settings = settings.model_copy(update={"data_mapping": mapping})
    request = make_request(TrainRequest, family=family, budget_seconds=budget_seconds)
    # Without a terminal there is no progress bar.
    typer.echo("Training a candidate. With 1,000 pupils it takes a minute or two.", err=True)
    result = asyncio.run(_train(settings, request))
    if as_json:
        return print_json(result)
    print_table(
        ("version", "model", "MAE", "R²", "data", "seconds"),
        [
            (
                *(result["version"], result["best_model"], result["test_mae"], result["test_r2"]),
                *(result["dataset"]["name"], result["duration_seconds"]),
            )
        ],
    )


async def _train(settings: Settings, request: Any) -> dict[str, Any]:
    from student_success.lifecycle.training_jobs import TrainingJobs
    from student_success.registry import versions
    from student_success.storage.deployments import Deployments, version_of
    from student_success.storage.jobs import JobTable

    with open_database(settings) as engine, progress_bar("training") as advance:
        jobs = TrainingJobs(settings, JobTable(engine))
        champion = versions.champion_folder(settings, version_of(Deployments(engine).current()))
        job_id, task = await jobs.start(request, champion=champion)
        try:
            while not (await asyncio.wait([task], timeout=POLL_SECONDS))[0]:
                progress = (await asyncio.to_thread(jobs.get, job_id))["progress"]
                advance(progress.get("share", 0.0), progress.get("doing", ""))
            return await task
        finally:
            await jobs.close()


def versions(*, as_json: Json = False) -> None:
    """List the registered versions, newest first."""
    from student_success.domain.students import HORIZONS

    settings = open_settings()
    all_known = HORIZONS[-1].replace("+", "_")
    rows = asyncio.run(run_command(settings, "versions"))["versions"]
    served = _served_version(settings)
    rows = [{**row, "served": str(row["version"]) == served} for row in rows]
    if as_json:
        return print_json(rows)
    print_table(
        ("version", "created", "model", "MAE", "R²", "data", "alias", "served"),
        [
            (
                *(row["version"], row["created_at"], row["best_model"]),
                *(row["metrics"].get(f"{all_known}/{name}") for name in ("mae", "r2")),
                *(row["dataset"]["name"], row["alias"], row["served"]),
            )
            for row in rows
        ],
    )


def evidence(version: Version, *, as_json: Json = False) -> None:
    """Show what the gate would decide about a version; nothing changes."""
    settings = open_settings()
    with open_database(settings):
        pass
    timeout = settings.registry_timeout_seconds + settings.train_timeout_seconds
    judge = run_command(settings, "judge", f"--version={version}", timeout=timeout)
    verdict = asyncio.run(judge)
    if as_json:
        return print_json(verdict)
    _print_conditions(verdict["conditions"])
    outcome = "would pass" if verdict["passed"] else "would be refused"
    mae, r2 = (
        "not measured" if value is None else f"{value:.3f}"
        for value in (verdict["mae"], verdict["r2"])
    )
    typer.echo(f"Version {version} {outcome}: MAE {mae}, R² {r2}.")


def promote(
    version: Version,
    reason: Reason,
    max_mae: Annotated[float | None, typer.Option(min=0, help="Tighter limit of the MAE.")] = None,
    min_r2: Annotated[float | None, typer.Option(max=1, help="Tighter limit of R².")] = None,
    fairness_override: Annotated[
        str | None, typer.Option(help="Why a fairness gap is accepted; recorded.")
    ] = None,
    population_override: Annotated[
        str | None,
        typer.Option(help="Why pupils unlike those of the served version are accepted; recorded."),
    ] = None,
    *,
    allow_synthetic: Annotated[
        bool,
        typer.Option(
            "--allow-synthetic", help="Let a model of made-up data replace one of real pupils."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Promote a version through the gate; every worker serves it within seconds."""
    from student_success.domain.schemas.lifecycle import PromoteRequest

    settings = open_settings()
    request = make_request(
        PromoteRequest,
        version=version,
        reason=reason,
        max_mae=max_mae,
        min_r2=min_r2,
        fairness_override=fairness_override,
        population_override=population_override,
        allow_synthetic=allow_synthetic,
    )
    with open_database(settings):
        pass
    with progress_bar("promotion") as advance:

        def step(event: dict[str, Any]) -> None:
            name = event["step"]
            done = _STEPS.index(name) + 1 if name in _STEPS else 0
            advance(done / len(_STEPS), name)

        promotion = run_command(
            settings,
            *("promote", f"--actor={ACTOR}", f"--request={request.model_dump_json()}"),
            timeout=settings.registry_timeout_seconds + settings.train_timeout_seconds,
            on_progress=step,
        )
        result = asyncio.run(promotion)
    if as_json:
        return print_json(result)
    _print_conditions(result["evidence"]["conditions"])
    typer.echo(
        f"Version {version} is served now; before it, {result['previous_version'] or 'none'}."
    )


def rollback(reason: Reason, *, as_json: Json = False) -> None:
    """Go back to the version served before; works without MLflow."""
    from student_success.lifecycle import promotion
    from student_success.storage.deployments import Deployments
    from student_success.storage.locks import Operation, exclusive

    settings = open_settings()
    with open_database(settings) as engine:
        deployments = Deployments(engine)
        with exclusive(Operation.DEPLOYMENT, engine=engine, state_dir=settings.state_dir):
            result = asyncio.run(
                promotion.roll_back(settings, deployments, reason=reason, actor=ACTOR)
            )
    # The server does it as well; without MLflow it is done later.
    with contextlib.suppress(StudentSuccessError):
        asyncio.run(run_command(settings, "align-alias"))
    if as_json:
        return print_json(result)
    typer.echo(
        f"Version {result['version']} is served again instead of {result['previous_version']}."
    )
    for warning in result["warnings"]:
        typer.echo(f"Warning: {warning}", err=True)


def deployments(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many to show.")] = 20,
    *,
    as_json: Json = False,
) -> None:
    """List promotions and rollbacks, newest first."""
    from student_success.storage.deployments import Deployments

    with open_database(open_settings()) as engine:
        rows = [row.public() for row in Deployments(engine).page(limit)]
    if as_json:
        return print_json(rows)
    columns = ("id", "at", "action", "from_version", "to_version", "actor", "reason")
    print_table(
        [name.removesuffix("_version") for name in columns],
        [[row[name] for name in columns] for row in rows],
    )


def verify(*, as_json: Json = False) -> None:
    """Check that nobody changed the record of deployments; exit code 1 if somebody did."""
    from student_success.lifecycle.audit_file import audit_log_problems
    from student_success.storage.deployments import Deployments

    settings = open_settings()
    with open_database(settings) as engine:
        problems = audit_log_problems(Deployments(engine), settings.state_dir)
    if as_json:
        print_json({"problems": problems})
    else:
        for problem in problems:
            typer.echo(problem)
        typer.echo(f"The record of deployments is {'broken' if problems else 'whole'}.")
    raise typer.Exit(ExitCode.FAILED if problems else ExitCode.DONE)


def _served_version(settings: Settings) -> str | None:
    from student_success.storage.deployments import Deployments

    with open_database(settings) as engine:
        current = Deployments(engine).current()
    return None if current is None else current.to_version


def _print_conditions(conditions: list[dict[str, Any]]) -> None:
    """Print the conditions of the gate, of those on fairness only the ones that failed."""
    columns = ("name", "passed", "value", "limit", "detail")
    shown = [one for one in conditions if not (one["passed"] and one["name"].startswith("fair"))]
    print_table(columns, [[condition[name] for name in columns] for condition in shown])
    if hidden := len(conditions) - len(shown):
        typer.echo(f"Conditions on fairness that passed: {hidden} (--json lists them).")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (train, versions, evidence, promote, rollback, deployments, verify):
        app.command(rich_help_panel="Models")(command)
