"""Train a candidate: from settings and data to a folder that can be evaluated and served."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from student_success.core.configuration.settings import Settings
from student_success.core.errors import DatasetError, InvalidInputError
from student_success.domain.students import SCALE
from training.data.dataset import Dataset, load
from training.evaluation.evaluate import Chooser, Evaluation, evaluate
from training.evaluation.fairness import MEASURES
from training.evaluation.feature_leaks import feature_leaks
from training.evaluation.held_out import CANDIDATE, WITHOUT, by_horizon
from training.evaluation.served import champion_model
from training.export.artefact import drift_reference, smoke_students, write_artefact
from training.export.compile import frame_of
from training.export.model_card import make_card
from training.export.register import Candidate
from training.fitting.families import FAMILIES
from training.fitting.fit import Recipe, fit
from training.fitting.parallel import LOCAL_JOBS, fits_on
from training.fitting.search import choose

OUTER_SPLITS = 5


def run(
    settings: Settings,
    *,
    family: str | None = None,
    budget_seconds: float | None = None,
    progress: Callable[[float, str], None] | None = None,
    champion_recipe: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    dataset: Dataset | None = None,
) -> Candidate:
    """Train, evaluate and compile a candidate, on the cluster of `train_scheduler` if it is set.

    Parameters
    ----------
    family
        The only family to try; all of them if None.
    budget_seconds
        Time for the search; the setting if None.
    progress
        Called with the share done, 0 to 1, and the current step.
    champion_recipe
        Content of the champion's recipe.json, with its ``"fingerprint"``, to refit in the same
        folds.
    folder
        Where to write the serving artefact; a new temporary folder if None.
    dataset
        The pupils; loaded by the settings if None.

    Raises
    ------
    DatasetError
        If the data is missing or has bad cells.
    InvalidInputError
        If there is no such family.
    """
    started = time.monotonic()
    report = progress or (lambda share, step: None)
    report(0.0, "loading data")
    data = dataset or load(settings)
    frame, target = data.inputs, data.grades
    if family is not None and family not in FAMILIES:
        raise InvalidInputError(
            f"There is no such family of models; there are {', '.join(FAMILIES)}.",
            details=[{"loc": ["family"], "msg": "unknown family", "type": "family_unknown"}],
        )
    search = partial(
        choose,
        family=family,
        budget_seconds=budget_seconds or settings.train_budget_seconds,
        seed=settings.random_seed,
    )
    with fits_on(settings.train_scheduler) as jobs:
        report(0.02, "judging on held-out pupils")
        evaluation = _judge(
            settings,
            data,
            search,
            champion_recipe,
            jobs=jobs,
            progress=lambda share: report(0.02 + 0.73 * share, "judging on held-out pupils"),
        )
        _require_measured(evaluation.evidence)
        report(0.75, "choosing a recipe")
        choice = search(frame, target, jobs=jobs)
        recipe = choice.recipe
        report(0.85, "fitting on all pupils")
        fitted = fit(frame, target, recipe, jobs=jobs)
    described = data.describe()
    written = {
        "family": recipe.family,
        "params": dict(recipe.params),
        "seed": recipe.seed,
        "data": described,
        "tried": list(choice.tried),
    }
    report(0.95, "writing the artefact")
    serving = folder or Path(tempfile.mkdtemp(prefix="student-success-"))
    serving.mkdir(parents=True, exist_ok=True)
    evidence = evaluation.evidence
    predicted = {
        horizon: SCALE.grade_between(
            np.concatenate([part.calibrated[CANDIDATE].grade for part in parts])
        )
        for horizon, parts in by_horizon(evaluation.held_out).items()
    }
    write_artefact(
        serving,
        fitted,
        frame,
        recipe=written,
        evidence=evidence,
        card=make_card(recipe=written, evidence=evidence, frame=data.frame),
        drift_reference=drift_reference(frame, predicted),
    )
    report(1.0, "done")
    return Candidate(
        pipeline=fitted.model,
        serving=serving,
        best_model=recipe.family,
        best_params=dict(recipe.params),
        metrics=flat_metrics(evidence),
        test_mae=evidence["mae"],
        test_r2=evidence["r2"],
        duration_seconds=round(time.monotonic() - started, 3),
        dataset=described,
        input_example=frame_of(smoke_students()[:3]),
    )


def _require_measured(evidence: Mapping[str, Any]) -> None:
    """Refuse to register a version that could never be judged."""
    if not np.isfinite([evidence["mae"], evidence["r2"]]).all():
        raise DatasetError(
            "No version was registered: the error of the model cannot be measured, because the "
            "held-out pupils nearly all have the same grade. Add pupils with other grades."
        )


def compare_recipes(
    settings: Settings, data: Dataset, candidate: Mapping[str, Any], champion: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the evidence of a candidate against a champion, refitted in the same folds.

    Parameters
    ----------
    candidate, champion
        Content of their recipe.json; the champion's with its ``"fingerprint"``.
    """
    return _judge(settings, data, Recipe.from_json(candidate), champion, jobs=LOCAL_JOBS).evidence


def _judge(
    settings: Settings,
    data: Dataset,
    recipe: Recipe | Chooser,
    champion_recipe: Mapping[str, Any] | None,
    *,
    jobs: int,
    progress: Callable[[float], None] | None = None,
) -> Evaluation:
    """Evaluate a recipe, or a way to choose one, on held-out pupils, and look for leaks."""
    evaluation = evaluate(
        data.inputs,
        data.grades,
        recipe,
        splits=OUTER_SPLITS,
        repeats=1,
        seed=settings.random_seed,
        champion=champion_model(champion_recipe) if champion_recipe else None,
        champion_name=champion_recipe.get("fingerprint") if champion_recipe else None,
        audit=data.audit,
        alarm_recall=settings.alarm_recall,
        added=data.added,
        jobs=jobs,
        progress=progress,
    )
    evaluation.evidence["feature_leaks"] = feature_leaks(data.frame)
    return evaluation


def flat_metrics(evidence: Mapping[str, Any]) -> dict[str, float]:
    """Return the candidate's figures under names that MLflow accepts, e.g. ``G1_G2/mae``."""
    found = {
        f"{horizon.replace('+', '_')}/{measure}": value["mean"]
        for horizon, by_name in evidence["horizons"].items()
        for measure, value in by_name[CANDIDATE].items()
        if np.isfinite(value["mean"])
    }
    for measure in MEASURES:
        # The largest gap between a group and all others; the evidence lists every group.
        found[f"fairness/{measure}_gap"] = max(
            (gap["gap"] for gap in evidence["fairness"] if gap["measure"] == measure), default=0.0
        )
    leaks = evidence.get("feature_leaks", ())
    found["undeclared_feature_leaks"] = float(sum(not leak["declared"] for leak in leaks))
    for horizon, mae in evidence.get("file_pupils", {}).get("mae", {}).items():
        # What the pupils added from the history change for the held-out pupils of the file.
        key = f"outcomes_effect/{horizon.replace('+', '_')}_mae"
        found[key] = mae[CANDIDATE] - mae[WITHOUT]
    return found | {"calibration_error": evidence["calibration"]["ece"]}


def make_seed(
    settings: Settings, *, progress: Callable[[float, str], None] | None = None
) -> Candidate:
    """Train the seed model into the folder that is committed.

    The folder is replaced only when the new model is complete.

    Raises
    ------
    DatasetError
        If the data is missing, has bad cells, or is the synthetic sample.
    """
    data = load(settings)
    if data.synthetic:
        raise DatasetError(
            "No seed model was made: it is trained on real pupils, and there is only the synthetic "
            "sample. Run `student-success prepare` first, or set DATA_PATH."
        )
    folder = settings.seed_model_path
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    candidate = run(settings, progress=progress, folder=fresh, dataset=data)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return replace(candidate, serving=folder)
