"""Choose a recipe by successive halving over all families, with the same inner folds.

First all candidates are fitted with few trees on one fold; the best are then fitted in full on the
other folds. The number of candidates follows from the budget, never from elapsed time, so the same
data, seed and budget choose the same recipe on any machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel
from numpy.typing import NDArray
from sklearn.model_selection import ParameterSampler

from training.fitting.families import FAMILIES, hide, last_known, levels_of
from training.fitting.fit import Recipe, fit_model, predict
from training.fitting.folds import folds
from training.fitting.parallel import task

Floats = NDArray[np.float64]

SPLITS = 3
SMALL = 40
"""Most iterations of a model in the first round."""
SECONDS_A_CANDIDATE = 5.0
"""Budget of one more candidate in each family, for six searches on two cores."""
SECONDS_A_SEARCH = 20.0
"""Below this budget only the families are compared: the evaluation takes most of it."""
CLEARLY = 0.02
"""By how much the score of another family must then be better than that of the first."""
PUPILS = 700
"""Number of pupils up to which these times hold; they grow in proportion to it."""
FINALISTS = 3


@dataclass(frozen=True, slots=True)
class Choice:
    """The result of a search; `tried` lists the candidates, the best score first.

    A score is the mean over the horizons of MAE divided by that of the rule of thumb.
    """

    recipe: Recipe
    tried: tuple[dict[str, Any], ...]


def choose(
    frame: pd.DataFrame,
    target: Floats,
    *,
    family: str | None,
    budget_seconds: float,
    seed: int,
    jobs: int = 1,
) -> Choice:
    """Return the recipe with the best score on folds of these pupils.

    Parameters
    ----------
    family
        The only family to try; all if None.
    budget_seconds
        For a whole training, its evaluation included: a larger budget tries more candidates, more
        pupils allow fewer. If it is too short for a search, the defaults of the families are
        compared on one fold of at most `PUPILS` of the pupils.
    """
    budget_seconds /= max(1.0, len(frame) / PUPILS)
    families = [family] if family else list(FAMILIES)
    searched = budget_seconds >= SECONDS_A_SEARCH
    more = math.floor(budget_seconds / SECONDS_A_CANDIDATE / len(families)) if searched else 0
    candidates = _candidates(families, more, seed)
    if len(candidates) == 1:
        return Choice(candidates[0], (_entry(candidates[0], None, full=False),))
    if not searched:
        frame, target = _sample(frame, target, seed)
    splits = list(folds(target, splits=SPLITS, seed=seed))
    run = Parallel(n_jobs=jobs)
    first = run(task(_score, frame, target, _small(r), *splits[0]) for r in candidates)
    means = [float(np.mean(ratios)) for ratios in first]
    order = sorted(range(len(candidates)), key=means.__getitem__)
    if not searched:
        winner = order[0] if means[order[0]] <= means[0] - CLEARLY else 0
        return Choice(
            candidates[winner],
            tuple(_entry(candidates[i], means[i], full=False) for i in order),
        )
    # The default candidate is always a finalist: the others must beat it.
    finalists = list(dict.fromkeys([0, *order]))[:FINALISTS]
    full = run(
        task(_score, frame, target, candidates[i], *split)
        for i in finalists
        for split in splits[1:]
    )
    per = {
        i: np.concatenate(full[k * (SPLITS - 1) : (k + 1) * (SPLITS - 1)])
        for k, i in enumerate(finalists)
    }
    ranked = sorted(finalists, key=lambda i: float(per[i].mean()))
    winner = _simplest(ranked, per)
    tried = [_entry(candidates[i], float(per[i].mean()), full=True) for i in ranked]
    tried += [_entry(candidates[i], means[i], full=False) for i in order if i not in finalists]
    return Choice(candidates[winner], tuple(tried))


def _candidates(families: Sequence[str], more: int, seed: int) -> list[Recipe]:
    """Return the default of each family, and some others of each."""
    recipes = []
    for number, name in enumerate(families):
        drawn = ParameterSampler(FAMILIES[name].space, n_iter=more, random_state=seed + number)
        recipes += [Recipe(name, dict(p), seed) for p in (FAMILIES[name].default, *drawn)]
    return recipes


def _sample(frame: pd.DataFrame, target: Floats, seed: int) -> tuple[pd.DataFrame, Floats]:
    """Return at most `PUPILS` of the pupils, chosen at random."""
    if len(frame) <= PUPILS:
        return frame, target
    chosen = np.random.default_rng(seed).choice(len(frame), PUPILS, replace=False)
    return frame.iloc[chosen], target[chosen]


def _small(recipe: Recipe) -> Recipe:
    iterations = min(SMALL, recipe.params["max_iter"])
    return Recipe(recipe.family, {**recipe.params, "max_iter": iterations}, recipe.seed)


def _score(
    frame: pd.DataFrame,
    target: Floats,
    recipe: Recipe,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
) -> Floats:
    model = fit_model(frame.iloc[train], target[train], recipe)
    rows, pupils, horizons = hide(frame.iloc[test])
    actual = levels_of(target[test])[pupils]
    predicted = predict(model, rows)
    error = np.abs(np.where(predicted.leaves >= 0.5, 0.0, predicted.centre) - actual)
    thumb = np.abs(last_known(rows, base=float(np.median(levels_of(target[train])))) - actual)
    ratios = [
        error[horizons == h].mean() / max(float(thumb[horizons == h].mean()), 1e-9)
        for h in np.unique(horizons)
    ]
    return np.asarray(ratios)


def _simplest(ranked: Sequence[int], per: dict[int, Floats]) -> int:
    """Return the first candidate within one standard error of the best: defaults come first."""
    best = ranked[0]
    for other in sorted(ranked):
        behind = per[other] - per[best]
        if behind.mean() <= behind.std(ddof=1) / math.sqrt(len(behind)):
            return other
    return best


def _entry(recipe: Recipe, score: float | None, *, full: bool) -> dict[str, Any]:
    return {
        "family": recipe.family,
        "params": dict(recipe.params),
        "score": None if score is None else round(score, 4),
        "full": full,
    }
