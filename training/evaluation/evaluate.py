"""What the candidate is worth on pupils it had not seen, beside the rule of thumb and the champion.

In each outer fold everything is made afresh from the training pupils alone: the choice of recipe,
the model, its calibration and the baselines. The evidence has the shape that
`student_success.lifecycle.evidence` reads, and says more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel
from numpy.typing import NDArray

from student_success.domain.students import HORIZONS
from student_success.model.grading import alarm_level
from training.evaluation.fairness import audit_groups, gaps
from training.evaluation.scores import (
    calibration_bins,
    expected_calibration_error,
    half_interval,
    scores,
)
from training.fitting.calibration import Predicted, Said, calibrate, say
from training.fitting.families import hide, last_known
from training.fitting.fit import Recipe, fit
from training.fitting.folds import folds
from training.fitting.parallel import task

Floats = NDArray[np.float64]
Split = tuple[NDArray[np.int64], NDArray[np.int64]]
Chooser = Callable[[pd.DataFrame, Floats], Recipe]

CANDIDATE, BASELINE, CHAMPION = "candidate", "baseline", "champion"
LOSSES = ("crps", "rmse", "mae")
ALARM_RECALL = 0.9


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What each model said of the pupils of one fold in one horizon.

    Attributes
    ----------
    seen
        Pupils whom the candidate's fit had seen, as the fit itself recorded them.
    pupils
        Pupils whom it was asked about, one an entry of `said`.
    alarm
        Whether the candidate's alarm rang.
    """

    fold: int
    horizon: str
    seen: NDArray[np.int64]
    pupils: NDArray[np.int64]
    actual: Floats
    said: Mapping[str, Said]
    alarm: NDArray[np.bool_]
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All out-of-fold answers, and the evidence drawn from them."""

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
    champion: Recipe | None = None,
    champion_name: str | None = None,
    audit: pd.DataFrame | None = None,
    alarm_recall: float = ALARM_RECALL,
    jobs: int = 1,
    progress: Callable[[float], None] | None = None,
    split: Iterable[Split] | None = None,
) -> Evaluation:
    """Judge a recipe, or a way to choose one, by repeated cross-validation over pupils.

    Parameters
    ----------
    frame
        One row a pupil, with the columns of `FEATURE_NAMES`.
    target
        Final grades, 0 to 20.
    recipe
        Called with the training pupils of a fold if it is a way to choose.
    champion
        The recipe of the version served now, refitted in the same folds; None if there is none.
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
    """
    frame = frame.reset_index(drop=True)
    found: list[HeldOut] = []
    planned = list(split or folds(target, splits=splits, repeats=repeats, seed=seed))
    results = Parallel(n_jobs=jobs, return_as="generator")(
        task(_one_fold, frame, target, recipe, champion, alarm_recall, number, train, test)
        for number, (train, test) in enumerate(planned)
    )
    for done, part in enumerate(results, start=1):
        found += part
        if progress is not None:
            progress(done / len(planned))
    evidence = _evidence(found, champion_name if champion else None)
    groups = audit_groups(found, frame, audit, candidate=CANDIDATE)
    evidence["groups"] = groups
    evidence["fairness"] = gaps(groups)
    evidence["alarm"] = {"recall_asked": alarm_recall, "horizons": _alarm(found)}
    return Evaluation(found, evidence)


def _one_fold(
    frame: pd.DataFrame,
    target: Floats,
    recipe: Recipe | Chooser,
    champion: Recipe | None,
    alarm_recall: float,
    number: int,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
) -> list[HeldOut]:
    known, grades = frame.iloc[train], target[train]
    chosen = recipe if isinstance(recipe, Recipe) else recipe(known, grades)
    recipes = {CANDIDATE: chosen} | ({CHAMPION: champion} if champion else {})
    fitted = {name: fit(known, grades, each) for name, each in recipes.items()}
    candidate = fitted[CANDIDATE]
    rows_known, pupils_known, horizons_known = hide(known)
    rows, pupils, horizons = hide(frame.iloc[test])
    base = float(np.median(grades))
    thumb, thumb_known = last_known(rows, base=base), last_known(rows_known, base=base)
    found = []
    for horizon in map(str, HORIZONS):
        here, there = horizons == horizon, horizons_known == horizon
        if not here.any() or not there.any():
            continue
        asked = rows[here].reset_index(drop=True)
        said = {name: each.say(asked, horizon) for name, each in fitted.items()}
        # The rule of thumb, made sure of itself in the same way: it learns next to nothing, so
        # its errors on the training pupils are as good as held out.
        table = calibrate(Predicted(thumb_known[there]), grades[pupils_known[there]])
        said[BASELINE] = say(Predicted(thumb[here]), table)
        who = test[pupils[here]]
        level = alarm_level(candidate.alarms[horizon], alarm_recall)
        alarm = said[CANDIDATE].probability < level
        found.append(
            HeldOut(number, horizon, candidate.seen, who, target[who], said, alarm, chosen)
        )
    return found


def leaks(held_out: Iterable[HeldOut]) -> tuple[int, int]:
    """Count predictions made by a fit that had seen the pupil, and all predictions looked at."""
    parts = list(held_out)
    seen = sum(int(np.isin(part.pupils, part.seen).sum()) for part in parts)
    return seen, sum(len(part.pupils) for part in parts)


def _alarm(held_out: list[HeldOut]) -> dict[str, dict[str, float]]:
    found = {}
    for horizon in dict.fromkeys(part.horizon for part in held_out):
        here = [part for part in held_out if part.horizon == horizon]
        rang = np.concatenate([part.alarm for part in here])
        failed = np.concatenate([part.actual for part in here]) < 10
        found[horizon] = {
            "recall": float(rang[failed].mean()) if failed.any() else 1.0,
            "false_alarms": float(rang[~failed].mean()) if (~failed).any() else 0.0,
            "share_alarmed": float(rang.mean()),
        }
    return found


def _evidence(held_out: list[HeldOut], champion: str | None) -> dict[str, Any]:
    per_fold: dict[str, dict[str, list[dict[str, float]]]] = {}
    for part in held_out:
        for name, said in part.said.items():
            per_fold.setdefault(part.horizon, {}).setdefault(name, []).append(
                scores(said, part.actual)
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
    # The case of old: both period grades known, where the data has any.
    main = horizons.get(str(HORIZONS[-1])) or horizons[str(HORIZONS[0])]
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
    probability = np.concatenate([part.said[CANDIDATE].probability for part in held_out])
    passed = np.concatenate([part.actual for part in held_out]) >= 10
    return {
        "ece": expected_calibration_error(probability, passed),
        "bins": calibration_bins(probability, passed),
    }


def _chosen(parts: list[HeldOut]) -> list[dict[str, Any]]:
    """Tell how often which recipe was chosen, the most often first."""
    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        key = f"{part.recipe.family} {sorted(part.recipe.params.items())}"
        entry = found.setdefault(
            key, {"family": part.recipe.family, "params": dict(part.recipe.params), "folds": 0}
        )
        entry["folds"] += 1
    return sorted(found.values(), key=lambda entry: -int(entry["folds"]))


def _summary(
    rows: list[dict[str, float]], *, n_train: float, n_test: float
) -> dict[str, dict[str, float]]:
    """Return mean, standard deviation between folds and half the 95 % interval of the mean."""
    found = {}
    for key in rows[0]:
        values = [row[key] for row in rows]
        found[key] = {
            "mean": float(np.mean(values)),
            "sd": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
            "half": half_interval(values, n_train=n_train, n_test=n_test),
        }
    return found
