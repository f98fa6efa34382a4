"""What the candidate is worth on pupils it had not seen, beside the rule of thumb and the champion.

In each outer fold everything is made afresh from the training pupils alone: model, calibration and
baselines. The evidence has the shape that `student_success.gate` reads, and says more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray

from student_success.predictor import HORIZONS
from training.calibration import Said, calibrate, say
from training.fit import Recipe, fit
from training.folds import folds
from training.pipeline import hide, last_known
from training.scores import scores

Floats = NDArray[np.float64]

CANDIDATE, BASELINE, CHAMPION = "candidate", "baseline", "champion"
LOSSES = ("crps", "rmse", "mae")


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What each model said of the pupils of one fold in one horizon.

    Attributes
    ----------
    train
        Pupils whom the fit had seen.
    pupils
        Pupils whom it was asked about, one a row of `said`.
    """

    fold: int
    horizon: str
    train: NDArray[np.int64]
    pupils: NDArray[np.int64]
    actual: Floats
    said: Mapping[str, Said]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All out-of-fold answers, and the evidence drawn from them."""

    held_out: list[HeldOut] = field(repr=False)
    evidence: dict[str, Any] = field(repr=False)


def evaluate(
    frame: pd.DataFrame,
    target: Floats,
    recipe: Recipe,
    *,
    splits: int,
    repeats: int,
    seed: int,
    champion: Recipe | None = None,
    champion_name: str | None = None,
    jobs: int = 1,
    progress: Callable[[float], None] | None = None,
) -> Evaluation:
    """Judge a recipe by repeated cross-validation over pupils.

    Parameters
    ----------
    frame
        One row a pupil, with the columns of `FEATURE_NAMES`.
    target
        Final grades, 0 to 20.
    champion
        The recipe of the version served now, refitted in the same folds; None if there is none.
    champion_name
        Fingerprint of that version.
    progress
        Called with the share done, 0 to 1.
    """
    recipes = {CANDIDATE: recipe} | ({CHAMPION: champion} if champion else {})
    found: list[HeldOut] = []
    total = splits * repeats
    results = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(_one_fold)(frame, target, recipes, number, train, test)
        for number, (train, test) in enumerate(
            folds(target, splits=splits, repeats=repeats, seed=seed)
        )
    )
    for done, part in enumerate(results, start=1):
        found += part
        if progress is not None:
            progress(done / total)
    return Evaluation(found, _evidence(found, champion_name if champion else None))


def _one_fold(
    frame: pd.DataFrame,
    target: Floats,
    recipes: Mapping[str, Recipe],
    number: int,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
) -> list[HeldOut]:
    fitted = {name: fit(frame.iloc[train], target[train], each) for name, each in recipes.items()}
    seen, seen_pupils, seen_horizons = hide(frame.iloc[train])
    rows, pupils, horizons = hide(frame.iloc[test])
    base = float(np.median(target[train]))
    thumb, seen_thumb = last_known(rows, base=base), last_known(seen, base=base)
    points = {name: each.points(rows) for name, each in fitted.items()}
    found = []
    for horizon in map(str, HORIZONS):
        here, there = horizons == horizon, seen_horizons == horizon
        if not here.any() or not there.any():
            continue
        # The rule of thumb, sure of itself in the same way: it learns nothing, so its residuals
        # on the training pupils are as good as held out.
        table = calibrate(seen_thumb[there], target[train][seen_pupils[there]])
        said = {name: say(points[name][here], fitted[name].tables[horizon]) for name in fitted}
        said[BASELINE] = say(thumb[here], table)
        who = test[pupils[here]]
        found.append(HeldOut(number, horizon, train, who, target[who], said))
    return found


def leaks(held_out: list[HeldOut]) -> tuple[int, int]:
    """Count predictions made by a fit that had seen the pupil, and all predictions looked at."""
    seen = sum(int(np.isin(part.pupils, part.train).sum()) for part in held_out)
    return seen, sum(len(part.pupils) for part in held_out)


def _evidence(held_out: list[HeldOut], champion: str | None) -> dict[str, Any]:
    per_fold: dict[str, dict[str, list[dict[str, float]]]] = {}
    for part in held_out:
        for name, said in part.said.items():
            per_fold.setdefault(part.horizon, {}).setdefault(name, []).append(
                scores(said, part.actual)
            )
    violations, checked = leaks(held_out)
    horizons = {
        horizon: {name: _summary(rows) for name, rows in by_name.items()}
        for horizon, by_name in per_fold.items()
    }
    main = horizons[str(HORIZONS[-1])][CANDIDATE]
    first = [part for part in held_out if part.horizon == str(HORIZONS[0])]
    return {
        "losses": {
            loss: {
                horizon: {
                    CANDIDATE: [row[loss] for row in by_name[CANDIDATE]],
                    BASELINE: [row[loss] for row in by_name[BASELINE]],
                    CHAMPION: [row[loss] for row in by_name[CHAMPION]]
                    if CHAMPION in by_name
                    else None,
                }
                for horizon, by_name in per_fold.items()
            }
            for loss in LOSSES
        },
        "n_train": float(np.mean([len(part.train) for part in first])),
        "n_test": float(np.mean([len(part.pupils) for part in first])),
        "mae": main["mae"]["mean"],
        "r2": main["r2"]["mean"],
        "leaks": violations,
        "leaks_checked": checked,
        "champion": champion,
        "fairness": [],
        "horizons": horizons,
    }


def _summary(rows: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    return {
        key: {
            "mean": float(np.mean([row[key] for row in rows])),
            "sd": float(np.std([row[key] for row in rows], ddof=1)) if len(rows) > 1 else 0.0,
        }
        for key in rows[0]
    }
