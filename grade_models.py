"""The estimator in a registered model: scikit-learn parts that predict the final grade.

Every model version contains this file, and its name must not change: a version loads wherever
scikit-learn, pandas and this file are installed. So it imports nothing else of the project.

A pupil may leave before the end, or finish. For each number of period grades known, one gradient
boosting predicts the chance of leaving, another the final grade of those who finish, or its change
since the last known grade. Declared directions are kept for every pupil (`monotonic_cst`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

Floats = NDArray[np.float64]

UNKNOWN = "?"
"""Marks the input that is 1 where a value is not known, e.g. ``absences=?``."""
MINIMUM_ROWS = 30
"""With fewer pupils who have a grade, a model without that grade predicts in its place."""


class GradeModel(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Predict the final grade of pupils of whom any number of period grades is known.

    Parameters
    ----------
    features
        By column, the periods left out: ``"categories"`` (a list; None for a number),
        ``"nullable"``, ``"monotone"`` (1 raises, -1 lowers, towards the better end) and
        ``"unrecorded"`` (not used for the chance of leaving).
    periods
        The columns of earlier grades, the oldest first: ``"same_scale"`` (as the final grade).
    scale
        ``"minimum"``, ``"maximum"``, ``"step"``, ``"better"`` (``"higher"`` or ``"lower"``), and
        ``"not_finished"``: whether the worst grade stands for those who left.
    learns
        ``"change"`` since the last known grade: best where that nearly is the final grade, because
        it never falls as the last grade rises. ``"grade"``: where extreme grades often move back.
    loss
        As scikit-learn's.
    hidden
        Share of the nullable values that are hidden in a copy of each training row; 0: no copy.

    Attributes
    ----------
    residuals_
        By number of known grades, rising quantiles of the errors in levels of the scale.
    widening_
        By number of known grades, how much the errors grow with each unknown value.
    """

    def __init__(
        self,
        *,
        features: Mapping[str, Mapping[str, Any]],
        periods: Mapping[str, Mapping[str, Any]],
        scale: Mapping[str, Any],
        learns: str = "change",
        loss: str = "absolute_error",
        learning_rate: float = 0.06,
        max_iter: int = 60,
        max_leaf_nodes: int = 6,
        min_samples_leaf: int = 20,
        l2_regularization: float = 5.0,
        leaving_iter: int = 40,
        hidden: float = 0.15,
        random_state: int = 0,
    ) -> None:
        self.features, self.periods, self.scale = features, periods, scale
        self.learns, self.loss = learns, loss
        self.learning_rate, self.max_iter = learning_rate, max_iter
        self.max_leaf_nodes, self.min_samples_leaf = max_leaf_nodes, min_samples_leaf
        self.l2_regularization, self.leaving_iter = l2_regularization, leaving_iter
        self.hidden, self.random_state = hidden, random_state

    def fit(self, X: pd.DataFrame, y: Any) -> Self:
        """Fit the two parts for each number of known grades.

        `X` has one row a pupil, with the columns of `features` and `periods`; `y` the final grades.
        """
        self.sign_ = 1 if self.scale["better"] == "higher" else -1
        self.worst_ = self.scale["minimum" if self.sign_ > 0 else "maximum"]
        levels = self._level(np.asarray(y, dtype=np.float64))
        self.fills_ = {
            name: _middle(X[name].to_numpy(dtype=np.float64))
            for name, about in self.features.items()
            if about["categories"] is None
        }
        self._name_inputs()
        # No leaf holds so few rows: without these inputs the trees are the same, and sooner fitted.
        self.rare_ = (self.inputs(self._seen(X)) != 0).sum(axis=0) < self.min_samples_leaf
        self.base_ = float(np.floor(np.median(levels)))
        self.changes_: list[HistGradientBoostingRegressor] = []
        self.leaving_: list[HistGradientBoostingClassifier | None] = []
        self.last_: list[str | None] = []
        self.residuals_ = [[-0.5, 0.5]] * (len(self.periods) + 1)
        self.widening_ = [0.0] * (len(self.periods) + 1)
        known = self._known(X)
        for number in range(len(self.periods) + 1):
            rows = known >= number
            if number and rows.sum() < MINIMUM_ROWS:
                for fitted in (self.changes_, self.leaving_, self.last_):
                    fitted.append(fitted[-1])
            else:
                self._fit_one(X[rows], levels[rows], number)
        self.n_features_in_ = X.shape[1]
        return self

    def _fit_one(self, table: pd.DataFrame, levels: Floats, number: int) -> None:
        shown = list(self.periods)[:number]
        same = [name for name in shown if self.periods[name]["same_scale"]]
        self.last_.append(same[-1] if same and self.learns == "change" else None)
        seen = self._seen(table)
        levels = np.tile(levels, len(seen) // len(table))
        inputs = self.inputs(seen)
        left = (levels == 0) & bool(self.scale["not_finished"])
        change = levels - self._last(seen, number)
        common = {
            "learning_rate": self.learning_rate,
            "min_samples_leaf": self.min_samples_leaf,
            "l2_regularization": self.l2_regularization,
            "early_stopping": False,
            "random_state": self.random_state,
        }
        columns = self.columns(number, leaving=False)
        finished = ~left if (~left).any() else np.ones(len(left), dtype=bool)
        directions = [self.directions_[at] for at in columns]
        fitted = HistGradientBoostingRegressor(
            loss=self.loss,
            max_iter=self.max_iter,
            max_leaf_nodes=self.max_leaf_nodes,
            monotonic_cst=directions,
            **common,
        ).fit(inputs[np.ix_(finished, columns)], change[finished])
        for (tree,) in fitted._predictors:
            _keep_directions(tree.nodes, directions)
        self.changes_.append(fitted)
        if not left.any() or left.all():
            self.leaving_.append(None)
            return
        columns = self.columns(number, leaving=True)
        self.leaving_.append(
            HistGradientBoostingClassifier(
                max_iter=self.leaving_iter,
                max_leaf_nodes=min(self.max_leaf_nodes, 4),
                monotonic_cst=[-self.directions_[at] for at in columns],
                **common,
            ).fit(inputs[:, columns], left)
        )

    def predict(self, X: pd.DataFrame) -> Floats:
        """Return the grade of each pupil, between two that exist where that is likelier."""
        centre, leaves = self.parts(X)
        levels = np.zeros(len(X))
        known, unknown = self._known(X), self.unknown(X)
        for number, quantiles in enumerate(self.residuals_):
            rows = (known == number) & (leaves < 0.5)
            share = (0.5 - leaves[rows]) / (1.0 - leaves[rows])
            errors = np.interp(share, np.linspace(0.0, 1.0, len(quantiles)), quantiles)
            levels[rows] = centre[rows] + (1.0 + self.widening_[number] * unknown[rows]) * errors
        step = self.sign_ * self.scale["step"]
        highest = (self.scale["maximum"] - self.scale["minimum"]) / self.scale["step"]
        return np.asarray(self.worst_ + step * np.clip(levels, 0.0, highest))

    def parts(self, X: pd.DataFrame) -> tuple[Floats, Floats]:
        """Return the expected level of those who finish, and the probability of leaving."""
        inputs, known = self.inputs(X), self._known(X)
        centre, leaves = np.zeros(len(X)), np.zeros(len(X))
        for number, change in enumerate(self.changes_):
            rows = np.flatnonzero(known == number)
            if not len(rows):
                continue
            columns = self.columns(self.fitted_for(number), leaving=False)
            centre[rows] = self._last(X.iloc[rows], number) + change.predict(
                inputs[np.ix_(rows, columns)]
            )
            leaving = self.leaving_[number]
            if leaving is not None:
                columns = self.columns(self.fitted_for(number), leaving=True)
                leaves[rows] = leaving.predict_proba(inputs[np.ix_(rows, columns)])[:, 1]
        return centre, leaves

    def fitted_for(self, number: int) -> int:
        """Return how many known grades the model sees that predicts where `number` are known."""
        while number and self.changes_[number] is self.changes_[number - 1]:
            number -= 1
        return number

    def inputs(self, table: pd.DataFrame) -> Floats:
        """Return the numbers that the trees see: ``(pupils, inputs)``, named by `input_names_`."""
        blocks: list[Floats] = []
        for name, categories in self.features_with_categories():
            values = table[name].to_numpy(dtype=object)
            # Of two categories that are always known one number is enough.
            shown = categories if self._has_block(name) else categories[1:]
            blocks += [(values == value).astype(np.float64) for value in shown]
        numbers = {name: table[name].to_numpy(dtype=np.float64) for name in self.fills_}
        blocks += [np.where(np.isnan(x), self.fills_[name], x) for name, x in numbers.items()]
        blocks += [np.isnan(numbers[name]).astype(np.float64) for name in self._nullable()]
        blocks += [np.nan_to_num(table[name].to_numpy(dtype=np.float64)) for name in self.periods]
        return np.column_stack(blocks)

    def _name_inputs(self) -> None:
        names: list[str] = []
        for name, categories in self.features_with_categories():
            names += [f"{name}={v}" for v in categories] if self._has_block(name) else [name]
        directions = [0] * len(names)
        names += self.fills_
        directions += [self.features[name]["monotone"] for name in self.fills_]
        marks = [f"{name}={UNKNOWN}" for name in self._nullable()]
        grades = [self.sign_ * bool(about["same_scale"]) for about in self.periods.values()]
        self.input_names_ = [*names, *marks, *self.periods]
        self.directions_ = [*directions, *[0] * len(marks), *grades]

    def features_with_categories(self) -> list[tuple[str, list[str]]]:
        """Return the features that are categories, with their values."""
        listed = ((name, about["categories"]) for name, about in self.features.items())
        return [(name, list(values)) for name, values in listed if values is not None]

    def _has_block(self, name: str) -> bool:
        return len(self.features[name]["categories"]) > 2 or bool(self.features[name]["nullable"])

    def _nullable(self) -> list[str]:
        return [name for name in self.fills_ if self.features[name]["nullable"]]

    def columns(self, number: int, *, leaving: bool) -> NDArray[np.int64]:
        """Return the positions of the inputs that one part sees where `number` grades are known."""
        hidden = set(list(self.periods)[number:])
        # Counted since the start of the year, such a value says nothing while no grade is known.
        if leaving or (self.periods and not number):
            hidden |= {name for name, about in self.features.items() if about["unrecorded"]}
        shown = np.array([name.split("=")[0] not in hidden for name in self.input_names_])
        # scikit-learn asks for at least one.
        return np.flatnonzero(shown & ~self.rare_ if (shown & ~self.rare_).any() else shown)

    def _seen(self, table: pd.DataFrame) -> pd.DataFrame:
        return pd.concat([table, self.hide(table, self.hidden)]) if self.hidden else table

    def hide(self, table: pd.DataFrame, share: float) -> pd.DataFrame:
        """Return a copy of the rows in which a share of the nullable values is not known."""
        random = np.random.default_rng(self.random_state)
        copy = table.copy()
        for name, about in self.features.items():
            if about["nullable"]:
                copy[name] = copy[name].where(random.random(len(copy)) >= share)
        return copy

    def unknown(self, table: pd.DataFrame) -> NDArray[np.int64]:
        """Return how many values of each row, other than period grades, are not known."""
        return np.asarray(table[list(self.features)].isna().sum(axis=1))

    def _known(self, table: pd.DataFrame) -> NDArray[np.int64]:
        has = table[list(self.periods)].notna().to_numpy()
        return np.asarray((has * np.arange(1, 1 + has.shape[1])).max(axis=1, initial=0))

    def _last(self, table: pd.DataFrame, number: int) -> Floats:
        name = self.last_[number]
        if name is None:
            return np.full(len(table), self.base_)
        return self._level(table[name].to_numpy(dtype=np.float64))

    def _level(self, grades: Floats) -> Floats:
        levels: Floats = self.sign_ * (grades - self.worst_) / self.scale["step"]
        return levels


def _keep_directions(nodes: NDArray[Any], directions: list[int], at: int = 0) -> list[int]:
    """Move leaves below one node of a tree so that no split breaks a declared direction.

    For the absolute error scikit-learn sets the values of the leaves anew when a tree has grown,
    and forgets `monotonic_cst` in that. Of two sides in the wrong order, the one with fewer
    training rows gives way. Returns the leaves.
    """
    if nodes["is_leaf"][at]:
        return [at]
    children = (int(nodes[side][at]) for side in ("left", "right"))
    sides = [_keep_directions(nodes, directions, child) for child in children]
    direction = directions[nodes["feature_idx"][at]]
    worse, better = sides[::direction] if direction else sides
    values, counts = nodes["value"], nodes["count"]
    highest, lowest = values[worse].max(), values[better].min()
    if direction and highest > lowest:
        middle = highest if counts[worse].sum() > counts[better].sum() else lowest
        values[worse] = np.minimum(values[worse], middle)
        values[better] = np.maximum(values[better], middle)
    return worse + better


def _middle(numbers: Floats) -> float:
    """Return the median, or the next lower value that occurs."""
    known = numbers[~np.isnan(numbers)]
    return float(np.quantile(known, 0.5, method="lower")) if len(known) else 0.0
