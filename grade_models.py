"""The estimators in a registered model: scikit-learn parts that predict the final grade.

Every model version contains this file, and its name must not change: a version loads wherever
scikit-learn, pandas and this file are installed. So it imports nothing else of the project.

Both estimators take a table with the columns of a pupil's features, G1 and G2 missing where not
known yet, and predict the change since the last known grade.

Source of the leaf distributions: N. Meinshausen, Quantile regression forests, JMLR 7 (2006).
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

Floats = NDArray[np.float64]

HIGHEST = 20
"""Grades run from 0 to this, in whole steps."""
FILL = -1.0
"""Replaces an unknown grade: below every grade, so one split of a tree separates it."""
GRADES = ("G1", "G2")
DERIVED = ("last", "trend", "known")
LOGGED = ("absences",)
LEFT, CHANGES = 0, 2 * HIGHEST + 2
"""Columns of a leaf: the share of pupils who ended at 0, then those of each change, −20 to 20."""
HALF = 0.5 - 1e-4
"""The median is the lowest grade with this share at or below it; below one half, to decide ties."""
PASS, NEARLY = 9.5, 9.49
"""Lowest grade that is rounded to a pass, and the highest displayed grade that is not."""


def with_derived(table: pd.DataFrame) -> pd.DataFrame:
    """Fill unknown grades and add the last known one, its trend, and how many are known."""
    g1, g2 = (table[name].astype(np.float64) for name in GRADES)
    return table.assign(
        G1=g1.fillna(FILL),
        G2=g2.fillna(FILL),
        last=g2.fillna(g1).fillna(FILL),
        trend=(g2 - g1).fillna(0.0),
        known=g1.notna().astype(np.float64) + g2.notna(),
    )


def grade_cdf(shares: Floats, last: Floats) -> Floats:
    """Convert shares of changes to distributions over whole grades.

    Parameters
    ----------
    shares
        ``(pupils, CHANGES)``.
    last
        Last known grade of each; a fraction divides its pupils between two whole grades.

    Returns
    -------
    array
        ``(pupils, 20)``; the share at or below 0, 1, … 19.
    """
    summed = np.cumsum(shares[:, 1:], axis=1)
    summed = np.concatenate([np.zeros((len(shares), 1)), summed], axis=1)
    whole = np.floor(last).astype(np.int64)
    part = (last - whole)[:, None]
    at = (HIGHEST + 1 - whole)[:, None] + np.arange(HIGHEST)
    cdf = np.take_along_axis(summed, at, axis=1)
    cdf = (1.0 - part) * cdf + part * np.take_along_axis(summed, at - 1, axis=1)
    return shares[:, :1] + cdf


def grade_of(cdf: Floats, median_share: float) -> Floats:
    """Blend mean and median of each distribution, on the median's side of the pass mark."""
    mean = (1.0 - cdf).sum(axis=1)
    median = (cdf < HALF).sum(axis=1)
    grade = (1.0 - median_share) * mean + median_share * median
    passes = median > PASS
    sided: Floats = np.where(passes, np.maximum(grade, PASS), np.minimum(grade, NEARLY))
    return sided


class _GradeModel(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Common parts of both estimators: the columns, and the last known grade."""

    columns_: ColumnTransformer
    base_: float

    def _prepare(self, table: pd.DataFrame) -> None:
        """Fit the columns: scale numbers (absences by logarithm), encode categories."""
        names = [name for name in table.columns if name not in (*GRADES, *DERIVED)]
        texts = [name for name in names if not pd.api.types.is_numeric_dtype(table[name])]
        numbers = [name for name in names if name not in (*texts, *LOGGED)]
        self.columns_ = ColumnTransformer(
            [
                ("numbers", StandardScaler(), [*numbers, *GRADES, *DERIVED]),
                (
                    "logged",
                    make_pipeline(
                        FunctionTransformer(np.log1p, feature_names_out="one-to-one"),
                        StandardScaler(),
                    ),
                    [*LOGGED],
                ),
                (
                    "categories",
                    OneHotEncoder(drop="if_binary", handle_unknown="ignore", sparse_output=False),
                    texts,
                ),
            ]
        ).fit(table)

    def _last(self, table: pd.DataFrame) -> Floats:
        last = table["last"].where(table["known"] > 0, self.base_)
        return last.to_numpy(dtype=np.float64)


class GradeForest(_GradeModel):
    """A forest whose leaves keep distributions of changes instead of means.

    Parameters
    ----------
    splitter
        ``"best"`` for a random forest, ``"random"`` for extra trees (bootstrapped too).
    criterion
        As scikit-learn's.
    power
        Trees are grown on sign(change)·|change|^power, so that pupils who left do not dominate.
    late_weight
        Weight of the rows with both grades known, the others having 1.
    median_share
        Of the median in the grade; the mean has the rest.
    """

    forest_: RandomForestRegressor | ExtraTreesRegressor

    def __init__(
        self,
        *,
        splitter: str = "best",
        criterion: str = "squared_error",
        n_estimators: int = 100,
        min_samples_leaf: int = 2,
        max_features: float = 0.45,
        max_samples: float = 0.7,
        power: float = 0.5,
        late_weight: float = 3.0,
        median_share: float = 0.7,
        random_state: int = 0,
    ) -> None:
        self.splitter = splitter
        self.criterion = criterion
        self.n_estimators = n_estimators
        self.min_samples_leaf = min_samples_leaf
        self.max_features = max_features
        self.max_samples = max_samples
        self.power = power
        self.late_weight = late_weight
        self.median_share = median_share
        self.random_state = random_state

    def fit(self, X: pd.DataFrame, y: Any) -> Self:
        """Grow the trees and record the changes of the pupils of each leaf.

        Parameters
        ----------
        X
            Pupils, one row a pupil and horizon.
        y
            Final grades, 0 to 20.
        """
        table = with_derived(X)
        grades = np.asarray(y, dtype=np.float64)
        self._prepare(table)
        self.base_ = float(np.floor(np.median(grades)))
        change = grades - self._last(table)
        weight = np.where(table["known"] == len(GRADES), self.late_weight, 1.0)
        forest = RandomForestRegressor if self.splitter == "best" else ExtraTreesRegressor
        self.forest_ = forest(
            n_estimators=self.n_estimators,
            criterion=self.criterion,
            min_samples_leaf=self.min_samples_leaf,
            max_features=self.max_features,
            max_samples=self.max_samples,
            bootstrap=True,
            random_state=self.random_state,
            n_jobs=1,
        )
        columns = self.columns_.transform(table)
        self.forest_.fit(
            columns, np.sign(change) * np.abs(change) ** self.power, sample_weight=weight
        )
        happened = np.where(grades == 0, LEFT, np.rint(change).astype(np.int64) + HIGHEST + 1)
        nodes = self._nodes(columns)
        counts = csr_matrix(
            (
                np.repeat(weight, nodes.shape[1]),
                (nodes.ravel(), np.repeat(happened, nodes.shape[1])),
            ),
            shape=(self._starts()[-1], CHANGES),
        )
        total = np.asarray(counts.sum(axis=1)).ravel()
        counts.data /= np.repeat(total, np.diff(counts.indptr)) * self.n_estimators
        self.leaf_shares_ = counts
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X: pd.DataFrame) -> Floats:
        """Return the grade of each pupil, 0 to 20."""
        table = with_derived(X)
        return grade_of(grade_cdf(self._shares(table), self._last(table)), self.median_share)

    def predict_cdf(self, X: pd.DataFrame) -> Floats:
        """Return for each pupil the share at or below grade 0, 1, … 19: ``(pupils, 20)``."""
        table = with_derived(X)
        return grade_cdf(self._shares(table), self._last(table))

    def _shares(self, table: pd.DataFrame) -> Floats:
        nodes = self._nodes(self.columns_.transform(table))
        ends = np.arange(len(nodes) + 1) * nodes.shape[1]
        chosen = csr_matrix(
            (np.ones(nodes.size), nodes.ravel(), ends), shape=(len(nodes), self._starts()[-1])
        )
        return np.asarray((chosen @ self.leaf_shares_).toarray(), dtype=np.float64)

    def _starts(self) -> NDArray[np.int64]:
        sizes = [tree.tree_.node_count for tree in self.forest_.estimators_]
        return np.concatenate([[0], np.cumsum(sizes)])

    def _nodes(self, columns: Floats) -> NDArray[np.int64]:
        leaves: NDArray[np.int64] = self.forest_.apply(columns).astype(np.int64)
        return leaves + self._starts()[:-1]


class GradeRegressor(_GradeModel):
    """Any scikit-learn regressor of the change since the last known grade.

    Parameters
    ----------
    regressor
        An unfitted regressor; it is cloned.
    late_weight
        Weight of the rows with both grades known, the others having 1.
    """

    regressor_: RegressorMixin

    def __init__(self, regressor: RegressorMixin, *, late_weight: float = 1.0) -> None:
        self.regressor = regressor
        self.late_weight = late_weight

    def fit(self, X: pd.DataFrame, y: Any) -> Self:
        """Fit the regressor on the changes; `X` and `y` as for `GradeForest`."""
        table = with_derived(X)
        grades = np.asarray(y, dtype=np.float64)
        self._prepare(table)
        self.base_ = float(np.floor(np.median(grades)))
        weight = np.where(table["known"] == len(GRADES), self.late_weight, 1.0)
        self.regressor_ = clone(self.regressor)
        self.regressor_.fit(
            self.columns_.transform(table), grades - self._last(table), sample_weight=weight
        )
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X: pd.DataFrame) -> Floats:
        """Return the grade of each pupil, 0 to 20."""
        table = with_derived(X)
        change = self.regressor_.predict(self.columns_.transform(table))
        grades: Floats = np.clip(self._last(table) + change, 0.0, float(HIGHEST))
        return grades
