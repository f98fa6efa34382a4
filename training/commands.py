"""The commands that the server runs as child processes: `run` and `compare`.

They report in JSON lines on standard output, see `student_success.core.subprocesses`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from student_success.core.errors import DatasetError
from student_success.core.logging import configure
from student_success.core.settings import Settings
from student_success.core.subprocesses import say, speaking
from student_success.domain.decision import SEED
from student_success.domain.students import FEATURE_NAMES, TARGET
from student_success.model.artefact import verify
from student_success.registry import mlflow_client, versions
from student_success.storage.deployments import Deployments
from student_success.storage.engine import connect, migrate


def run(settings: Settings, arguments: argparse.Namespace) -> None:
    """Train a candidate, compare it with the champion, register it; the alias does not move."""
    from training import train
    from training.data.dataset import load
    from training.data.outcomes import load_with_outcomes
    from training.export.register import register_candidate

    if arguments.scheduler:
        settings = settings.model_copy(update={"train_scheduler": arguments.scheduler})
    with speaking(patient=True) as stream:
        configure(settings)
        champion = arguments.champion or _served(settings)
        data = load_with_outcomes(settings) if arguments.with_outcomes else load(settings)
        # A model that nobody will keep need not be trained.
        mlflow_client.check(settings)
        candidate = train.run(
            settings,
            family=arguments.family,
            budget_seconds=arguments.budget_seconds,
            champion_recipe=_recipe(champion),
            dataset=data,
            progress=lambda share, what: say(stream, "progress", share=round(share, 3), doing=what),
        )
        registered = register_candidate(settings, candidate)
        say(
            stream,
            "result",
            best_model=candidate.best_model,
            best_params=candidate.best_params,
            test_mae=candidate.test_mae,
            test_r2=candidate.test_r2,
            run_id=registered.run_id,
            model_name=settings.model_name,
            version=registered.version,
            duration_seconds=candidate.duration_seconds,
            dataset=candidate.dataset,
        )


def compare(settings: Settings, arguments: argparse.Namespace) -> None:
    """Judge a registered candidate against another champion, on the data it was trained on."""
    from training.data.outcomes import load_again
    from training.evaluation.evaluate import evaluate
    from training.fitting.fit import Recipe
    from training.fitting.parallel import LOCAL_JOBS
    from training.train import OUTER_SPLITS

    with speaking() as stream:
        configure(settings)
        candidate, champion = _recipe(arguments.candidate), _recipe(arguments.champion)
        data = load_again(settings, candidate["data"])
        if data.sha256 != candidate["data"]["sha256"]:
            raise DatasetError(
                "The candidate was trained on other data than there is now, so it cannot be "
                "compared with the version served: train it again."
            )
        evaluation = evaluate(
            data.frame[list(FEATURE_NAMES)],
            data.frame[TARGET].to_numpy(dtype=np.float64),
            Recipe.from_json(candidate),
            splits=OUTER_SPLITS,
            repeats=1,
            seed=settings.random_seed,
            champion=Recipe.from_json(champion),
            champion_name=champion["fingerprint"],
            audit=data.audit,
            alarm_recall=settings.alarm_recall,
            jobs=LOCAL_JOBS,
        )
        say(stream, "result", evaluation=evaluation.evidence)


def _served(settings: Settings) -> Path:
    migrate(settings.database, state_dir=settings.state_dir)
    current = Deployments(connect(settings.database)).current()
    return versions.folder_of(settings, SEED if current is None else current.to_version)


def _recipe(folder: Path) -> dict[str, Any]:
    """Read the recipe of a checked artefact, with the artefact's fingerprint."""
    fingerprint = verify(folder)
    recipe: dict[str, Any] = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    return {**recipe, "fingerprint": fingerprint}
