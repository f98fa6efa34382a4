"""Evaluate a candidate on held-out pupils, next to the rule of thumb and the champion.

In each outer fold everything is derived from the training pupils alone: the choice of recipe, the
model, its calibration and the baselines. `student_success.lifecycle.evidence` reads the evidence.
Grades are compared as levels of the scale, errors reported in grades.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel
from numpy.typing import NDArray

from student_success.domain.students import HORIZONS, PASS_LEVEL
from student_success.model.grading import alarm_level
from training.evaluation.fairness import audit_groups, gaps
from training.evaluation.held_out import (
    BASELINE,
    CANDIDATE,
    CHAMPION,
    WITHOUT,
    HeldOut,
    by_horizon,
    count_pupils,
    file_pupils,
    leaks,
)
from training.evaluation.scores import (
    calibration_bins,
    expected_calibration_error,
    half_interval,
    scores,
)
from training.evaluation.served import ServedModel
from training.fitting.calibration import Calibrated, Predicted, apply_table, calibrate
from training.fitting.families import hide, last_known, levels_of
from training.fitting.fit import Fitted, Recipe, fit
from training.fitting.folds import folds
from training.fitting.parallel import task
from training.fitting.search import Choice

Floats = NDArray[np.float64]
Split = tuple[NDArray[np.int64], NDArray[np.int64]]
Chooser = Callable[[pd.DataFrame, Floats], Choice]

LOSSES = ("crps", "rmse", "mae")
ALARM_RECALL = 0.9


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All out-of-fold predictions, and the evidence computed from them."""

    held_out: list[HeldOut] = field(repr=False)
    evidence: dict[str, Any] = field(repr=False)


def evaluate(
    frame: pd.DataFrame,
    target: Floats,
    recipe: Recipe | Chooser,
    *,
    splits: int,
    repeats: int,
    seed: int,
    champion: Recipe | ServedModel | None = None,
    champion_name: str | None = None,
    audit: pd.DataFrame | None = None,
    alarm_recall: float = ALARM_RECALL,
    jobs: int = 1,
    progress: Callable[[float], None] | None = None,
    split: Iterable[Split] | None = None,
    added: int = 0,
) -> Evaluation:
    """Evaluate a recipe, or a way to choose one, by repeated cross-validation over pupils.

    Parameters
    ----------
    frame
        One row a pupil, with the columns of `FEATURE_NAMES`.
    target
        Final grades.
    recipe
        If it is a function, it is called with the training pupils of each fold.
    champion
        The version served now: its recipe, which is refitted in the same folds, or its artefact,
        which predicts as it is; None if there is none.
    champion_name
        Fingerprint of that version.
    audit
        Columns that are no features, row by row beside `frame`, to look for unfairness in.
    alarm_recall
        Share of failing pupils that the alarm is to find.
    progress
        Called with the share done, 0 to 1.
    split
        Folds to use in place of `splits`, `repeats` and `seed`.
    added
        How many of the last pupils were added from the history. If there are any, the pupils of the
        file are also judged alone, beside a fit that knows only them.
    """
    frame = frame.reset_index(drop=True)
    found: list[HeldOut] = []
    of_file = len(frame) - added
    planned = list(
        split or folds(target, splits=splits, repeats=repeats, seed=seed, of_file=of_file)
    )
    results = Parallel(n_jobs=jobs, return_as="generator")(
        task(_one_fold, frame, target, recipe, champion, alarm_recall, added, number, train, test)
        for number, (train, test) in enumerate(planned)
    )
    for done, part in enumerate(results, start=1):
        found += part
        if progress is not None:
            progress(done / len(planned))
    evidence = _evidence(found, champion_name if champion else None)
    groups = audit_groups(found, frame, audit)
    if added:
        evidence["file_pupils"] = file_pupils(found, of_file)
    evidence["champion_as_served"] = isinstance(champion, ServedModel)
    evidence["groups"] = groups
    evidence["fairness"] = gaps(groups)
    evidence["alarm"] = {"recall_asked": alarm_recall, "horizons": _alarm(found)}
    return Evaluation(found, evidence)


def _one_fold(
    frame: pd.DataFrame,
    target: Floats,
    recipe: Recipe | Chooser,
    champion: Recipe | ServedModel | None,
    alarm_recall: float,
    added: int,
    number: int,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
) -> list[HeldOut]:
    known, grades = frame.iloc[train], target[train]
    chosen = recipe if isinstance(recipe, Recipe) else recipe(known, grades).recipe
    candidate = fit(known, grades, chosen)
    models: dict[str, Fitted | ServedModel] = {CANDIDATE: candidate}
    if isinstance(champion, Recipe):
        models[CHAMPION] = fit(known, grades, champion)
    elif champion is not None:
        models[CHAMPION] = champion
    of_file = len(frame) - added
    if added:
        models[WITHOUT] = fit(known[train < of_file], grades[train < of_file], chosen)
    rows_known, pupils_known, horizons_known = hide(known)
    rows, pupils, horizons = hide(frame.iloc[test])
    levels = levels_of(target)
    base = float(np.median(levels[train]))
    thumb, thumb_known = last_known(rows, base=base), last_known(rows_known, base=base)
    parts = []
    for horizon in map(str, HORIZONS):
        tested, trained = horizons == horizon, horizons_known == horizon
        if not tested.any() or not trained.any():
            continue
        test_rows = rows[tested].reset_index(drop=True)
        calibrated = {name: each.predict(test_rows, horizon) for name, each in models.items()}
        # The rule of thumb is calibrated in the same way. It fits almost nothing, so its errors on
        # the training pupils are as good as held-out ones.
        calibrated[BASELINE] = _rule_of_thumb(
            thumb_known[trained], levels[train][pupils_known[trained]], thumb[tested]
        )
        test_pupils = test[pupils[tested]]
        alarm = calibrated[CANDIDATE].probability < alarm_level(
            candidate.alarms[horizon], alarm_recall
        )
        parts.append(
            HeldOut(
                fold=number,
                horizon=horizon,
                seen=candidate.seen,
                pupils=test_pupils,
                actual=levels[test_pupils],
                calibrated=calibrated,
                alarm=alarm,
                recipe=chosen,
            )
        )
    return parts


def _rule_of_thumb(known: Floats, actual: Floats, tested: Floats) -> Calibrated:
    """Return the last known levels as predictions, with intervals by the errors of the others."""

    def certain(levels: Floats) -> Predicted:
        return Predicted(levels, np.zeros(len(levels)), np.zeros(len(levels), dtype=np.int64))

    calibrated = apply_table(certain(tested), calibrate(certain(known), actual))
    # The rule is the last grade itself, without the shift by the median error.
    return replace(calibrated, grade=tested)


def _alarm(held_out: list[HeldOut]) -> dict[str, dict[str, float | None]]:
    """Return the rates of the alarm by horizon; None without pupils to measure one by."""
    rates: dict[str, dict[str, float | None]] = {}
    for horizon, parts in by_horizon(held_out).items():
        alarm = np.concatenate([part.alarm for part in parts])
        failed = np.concatenate([part.actual for part in parts]) < PASS_LEVEL
        rates[horizon] = {
            "recall": float(alarm[failed].mean()) if failed.any() else None,
            "false_alarms": float(alarm[~failed].mean()) if (~failed).any() else None,
            "share_alarmed": float(alarm.mean()),
        }
    return rates


def _evidence(held_out: list[HeldOut], champion: str | None) -> dict[str, Any]:
    per_fold: dict[str, dict[str, list[dict[str, float]]]] = {}
    for part in held_out:
        for name, calibrated in part.calibrated.items():
            per_fold.setdefault(part.horizon, {}).setdefault(name, []).append(
                scores(calibrated, part.actual)
            )
    violations, checked = leaks(held_out)
    first = [part for part in held_out if part.horizon == str(HORIZONS[0])]
    n_train = float(np.mean([len(part.seen) for part in first]))
    n_test = float(np.mean([len(part.pupils) for part in first]))
    horizons = {
        horizon: {
            name: _summary(rows, n_train=n_train, n_test=n_test) for name, rows in by_name.items()
        }
        for horizon, by_name in per_fold.items()
    }
    # The headline figures are those with the most period grades that the data has.
    main = next(horizons[h] for h in reversed(list(map(str, HORIZONS))) if h in horizons)
    return {
        "losses": {
            loss: {
                horizon: {
                    name: [row[loss] for row in by_name[name]] if name in by_name else None
                    for name in (CANDIDATE, BASELINE, CHAMPION)
                }
                for horizon, by_name in per_fold.items()
            }
            for loss in LOSSES
        },
        "n_train": n_train,
        "n_test": n_test,
        "pupils": count_pupils(held_out),
        "mae": main[CANDIDATE]["mae"]["mean"],
        "r2": main[CANDIDATE]["r2"]["mean"],
        "leaks": violations,
        "leaks_checked": checked,
        "champion": champion,
        "horizons": horizons,
        "calibration": _calibration(held_out),
        "chosen": _chosen(first),
    }


def _calibration(held_out: list[HeldOut]) -> dict[str, Any]:
    probability = np.concatenate([part.calibrated[CANDIDATE].probability for part in held_out])
    passed = np.concatenate([part.actual for part in held_out]) >= PASS_LEVEL
    return {
        "ece": expected_calibration_error(probability, passed),
        "bins": calibration_bins(probability, passed),
    }


def _chosen(parts: list[HeldOut]) -> list[dict[str, Any]]:
    """Count how often each recipe was chosen, the most frequent first."""
    chosen: dict[str, dict[str, Any]] = {}
    for part in parts:
        key = f"{part.recipe.family} {sorted(part.recipe.params.items())}"
        entry = chosen.setdefault(
            key, {"family": part.recipe.family, "params": dict(part.recipe.params), "folds": 0}
        )
        entry["folds"] += 1
    return sorted(chosen.values(), key=lambda entry: -int(entry["folds"]))


def _summary(
    rows: list[dict[str, float]], *, n_train: float, n_test: float
) -> dict[str, dict[str, float]]:
    """Return mean, standard deviation between folds and half the 95 % interval of the mean."""
    summary = {}
    for key in rows[0]:
        # In some folds there is no such figure, e.g. no recall without a failing pupil.
        values = [row[key] for row in rows if np.isfinite(row[key])]
        summary[key] = {
            "mean": float(np.mean(values)) if values else float("nan"),
            "sd": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
            "half": half_interval(values, n_train=n_train, n_test=n_test),
        }
    return summary
