"""The training commands that run as child processes: each returns the fields of its result.

Libraries are imported inside the functions: listing the commands is quick, and a profile that
cannot be read is reported as any other error, see `student_success.core.subprocesses`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from student_success.core.configuration.settings import Settings

Facts = dict[str, Any]
Progress = Callable[[float, str], None]
"""Called with the share done, 0 to 1, and the current step."""


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
    from student_success.registry.versions import champion_folder
    from student_success.storage.deployments import Deployments, version_of
    from student_success.storage.engine import connect
    from student_success.storage.migrate import migrate

    migrate(settings.database, state_dir=settings.state_dir)
    current = Deployments(connect(settings.database)).current()
    return champion_folder(settings, version_of(current))


def _recipe(folder: Path) -> Facts:
    """Read the recipe of a verified artefact, with the artefact's fingerprint and folder."""
    from student_success.model.artefact import Artefact

    artefact = Artefact(folder)
    return {**artefact.recipe, "fingerprint": artefact.fingerprint, "folder": str(folder)}
