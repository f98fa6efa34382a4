"""The training commands: one function each, which returns its facts and prints nothing.

Libraries are imported inside the functions, so that listing the commands is quick. `train` and
`compare` are also run by the server as child processes; they report in JSON lines on standard
output, see `student_success.core.subprocesses`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from student_success.core.settings import Settings

Facts = dict[str, Any]
Progress = Callable[[float, str], None]
"""Called with the share done, 0 to 1, and the current step."""


def prepare(*, destination: Path, source: Path | None = None, url: str | None = None) -> Facts:
    """Download the two UCI files, or read local copies, and merge them.

    Parameters
    ----------
    destination
        The merged file.
    source
        Folder with local copies; they are downloaded if None.
    url
        Address of the archive; that of the UCI repository if None.
    """
    from training.data.prepare import UCI_URL, prepare

    done = prepare(source_dir=source, destination=destination, url=url or UCI_URL)
    return {
        "path": str(done.path),
        "rows": done.rows,
        "sha256": done.sha256,
        "as_published": done.as_published,
    }


def sample(*, destination: Path | None = None) -> Facts:
    """Generate the synthetic sample, identical to the file that ships with the project."""
    from training.data.dataset import SAMPLE
    from training.data.sample import write

    path = destination or SAMPLE
    return {"path": str(path), "rows": write(path)}


def check_table(path: Path, mapping: Path | None = None) -> Facts:
    """Check a table of pupils against the profile of this process.

    Raises
    ------
    DatasetError
        With every bad cell, or with what makes a training impossible.
    """
    from student_success.domain.tables.reader import read_choices
    from training.data.dataset import read, require_suitable

    dataset = require_suitable(read(path, read_choices(mapping)))
    return {"name": dataset.name, "rows": dataset.rows, "remarks": list(dataset.remarks)}


def draft_profile(
    source: Path,
    *,
    target: str,
    destination: Path,
    pass_mark: float | None = None,
    better: str | None = None,
    overwrite: bool = False,
) -> Facts:
    """Propose a profile for a table of pupils, see `training.data.profile_draft.draft`."""
    from training.data.profile_draft import draft

    profile = draft(
        source, target, destination, pass_mark=pass_mark, better=better, overwrite=overwrite
    )
    return {"path": str(destination), "features": len(profile.feature)}


def dictionary(*, destination: Path | None = None) -> Facts:
    """Write the data dictionary from the features."""
    from training.data.dictionary import write

    return {"path": str(write(destination))}


def seed(settings: Settings, *, progress: Progress | None = None) -> Facts:
    """Train the seed model, which is committed, on the real data."""
    from training import train

    candidate = train.make_seed(settings, progress=progress)
    return {
        "path": str(candidate.serving),
        "best_model": candidate.best_model,
        "test_mae": candidate.test_mae,
        "test_r2": candidate.test_r2,
        "duration_seconds": candidate.duration_seconds,
    }


def report(
    settings: Settings, *, destination: Path, uci: Path | None = None, quick: bool = False
) -> Facts:
    """Measure the model at length on the real data and write docs/model-report.md.

    Parameters
    ----------
    destination
        Folder of the report.
    uci
        Folder with the two UCI files, to repeat the published protocol; left out if None.
    quick
        Run one repeat of each protocol.
    """
    from training.report import report

    return {"path": str(report.write(settings, destination, uci=uci, quick=quick))}


def train(
    settings: Settings,
    *,
    family: str | None = None,
    budget_seconds: float | None = None,
    champion: Path | None = None,
    with_outcomes: bool = False,
    progress: Progress | None = None,
) -> Facts:
    """Train a candidate, compare it with the champion and register it; the alias does not move.

    Parameters
    ----------
    family
        The only family to try; all if None.
    budget_seconds
        Time for the search; the setting if None.
    champion
        Folder of the artefact to compare with; the deployed version if None.
    with_outcomes
        Also learn from pupils of the history whose final grade is known.
    """
    from student_success.registry import mlflow_client
    from training import train as training
    from training.data.dataset import load
    from training.data.outcomes import load_with_outcomes
    from training.export.register import register_candidate

    champion = champion or _deployed(settings)
    dataset = load_with_outcomes(settings) if with_outcomes else load(settings)
    # Check the registry before a long training whose result could not be registered.
    mlflow_client.check(settings)
    candidate = training.run(
        settings,
        family=family,
        budget_seconds=budget_seconds,
        champion_recipe=None if champion is None else _recipe(champion),
        dataset=dataset,
        progress=progress,
    )
    registered = register_candidate(settings, candidate)
    return {
        "best_model": candidate.best_model,
        "best_params": candidate.best_params,
        "test_mae": candidate.test_mae,
        "test_r2": candidate.test_r2,
        "run_id": registered.run_id,
        "model_name": settings.model_name,
        "version": registered.version,
        "duration_seconds": candidate.duration_seconds,
        "dataset": candidate.dataset,
    }


def compare(settings: Settings, *, candidate: Path, champion: Path) -> Facts:
    """Evaluate a registered candidate against another champion, on the candidate's training data.

    Parameters
    ----------
    candidate, champion
        Folders of the two artefacts.

    Raises
    ------
    DatasetError
        If the training data has changed.
    """
    from student_success.core.errors import DatasetError
    from training.data.outcomes import load_again
    from training.train import compare_recipes

    recipe = _recipe(candidate)
    data = load_again(settings, recipe["data"])
    if data.sha256 != recipe["data"]["sha256"]:
        raise DatasetError(
            "The training data has changed since the candidate was trained, so it cannot be "
            "compared with the served version: train it again."
        )
    return {"evaluation": compare_recipes(settings, data, recipe, champion=_recipe(champion))}


def _deployed(settings: Settings) -> Path | None:
    """Return the folder of the version served; None before the first of another profile."""
    from student_success.domain.decision import SEED
    from student_success.registry.versions import champion_folder
    from student_success.storage.deployments import Deployments
    from student_success.storage.engine import connect
    from student_success.storage.migrate import migrate

    migrate(settings.database, state_dir=settings.state_dir)
    current = Deployments(connect(settings.database)).current()
    return champion_folder(settings, SEED if current is None else current.to_version)


def _recipe(folder: Path) -> Facts:
    """Read the recipe of a verified artefact, with the artefact's fingerprint and folder."""
    from student_success.model.artefact import Artefact

    artefact = Artefact(folder)
    return {**artefact.recipe, "fingerprint": artefact.fingerprint, "folder": str(folder)}
