"""Convert the fitted model of any family to trees of one type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from grade_models import DERIVED, GRADES, GradeForest, GradeRegressor
from student_success.domain.students import Horizon
from training.export.splits import CONSTANT, LAST, TREND, Splits, bounds_of
from training.fitting.families import Model

Floats = NDArray[np.float64]

_SLOPED = (*GRADES, *DERIVED)


@dataclass(frozen=True, slots=True)
class Tree:
    """One fitted tree: arrays by node, children -1 at a leaf.

    Attributes
    ----------
    value
        ``(nodes, targets)``; what a leaf adds to each output.
    single
        Whether the fitted tree sees its inputs as float32.
    """

    feature: NDArray[np.int64]
    threshold: Floats
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: Floats
    single: bool


def trees_of(model: Model) -> Iterator[Tree]:
    """Yield the trees of a fitted model; their leaves add up to its raw outputs."""
    if isinstance(model, GradeForest):
        shares = model.leaf_shares_.toarray()
        start = 0
        for member in model.forest_.estimators_:
            tree = member.tree_
            yield Tree(
                feature=tree.feature.astype(np.int64),
                threshold=tree.threshold,
                left=tree.children_left.astype(np.int64),
                right=tree.children_right.astype(np.int64),
                value=shares[start : start + tree.node_count],
                single=True,
            )
            start += tree.node_count
        return
    regressor = model.regressor_
    if isinstance(regressor, HistGradientBoostingRegressor):
        # The initial constant of the boosting, as a tree of one leaf.
        yield _leaf(float(np.ravel(regressor._baseline_prediction)[0]))
        for (member,) in regressor._predictors:
            nodes = member.nodes
            leaf = nodes["is_leaf"].astype(bool)
            yield Tree(
                feature=nodes["feature_idx"].astype(np.int64),
                threshold=nodes["num_threshold"].astype(np.float64),
                left=np.where(leaf, -1, nodes["left"].astype(np.int64)),
                right=np.where(leaf, -1, nodes["right"].astype(np.int64)),
                value=np.where(leaf, nodes["value"], 0.0)[:, None],
                single=False,
            )
        return
    yield from _linear_trees(model)


def _linear_trees(model: GradeRegressor) -> Iterator[Tree]:
    """Yield one tree for each column, with one leaf a value; grades are left to `slopes_of`."""
    yield _leaf(float(model.regressor_.intercept_))
    splits = Splits(model.columns_)
    for column, weight in enumerate(model.regressor_.coef_):
        name, category = splits.source[column]
        if name in _SLOPED:
            continue
        if category is not None:
            scaled = np.array([0.0, 1.0])
        else:
            low, high = bounds_of(name)
            scaled = np.array([splits.scaled(name, x) for x in range(int(low), int(high) + 1)])
        yield _staircase(column, scaled, float(weight) * scaled)


def _staircase(column: int, points: Floats, values: Floats) -> Tree:
    """Build a balanced tree whose leaves give each of the rising points its value."""
    nodes: list[tuple[float, int, int, float]] = []

    def build(first: int, last: int) -> int:
        at = len(nodes)
        nodes.append((0.0, -1, -1, float(values[first])))
        if last > first:
            middle = (first + last) // 2
            threshold = float(points[middle] + points[middle + 1]) / 2
            nodes[at] = (threshold, build(first, middle), build(middle + 1, last), 0.0)
        return at

    build(0, len(points) - 1)
    threshold, left, right, value = (np.array(part) for part in zip(*nodes, strict=True))
    return Tree(np.full(len(nodes), column), threshold, left, right, value[:, None], False)


def slopes_of(model: Model) -> dict[str, list[float]] | None:
    """Return what a linear model adds for the grades: constant, times G1, times G2, by horizon."""
    if isinstance(model, GradeForest) or not hasattr(model.regressor_, "coef_"):
        return None
    splits = Splits(model.columns_)
    weights = {
        splits.source[column][0]: float(weight)
        for column, weight in enumerate(model.regressor_.coef_)
        if splits.source[column][0] in _SLOPED
    }
    slopes = {}
    for horizon in Horizon:
        found = [0.0, 0.0, 0.0]
        for name, weight in weights.items():
            mean, scale = splits.scale[name]
            found[0] -= weight * mean / scale
            if name in CONSTANT[horizon]:
                found[0] += weight * CONSTANT[horizon][name] / scale
            elif name == TREND:
                found[1] -= weight / scale
                found[2] += weight / scale
            else:
                grade = LAST[horizon] if name == "last" else name
                found[1 + GRADES.index(grade)] += weight / scale
        slopes[str(horizon)] = found
    return slopes


def _leaf(value: float) -> Tree:
    none, zero = np.array([-1]), np.array([0])
    return Tree(zero, np.zeros(1), none, none, np.array([[value]]), False)


def leaves_of(tree: Tree, columns: Floats) -> NDArray[np.int64]:
    """Return the leaf that each row of scaled columns falls into."""
    if tree.single:
        columns = columns.astype(np.float32).astype(np.float64)
    at = np.zeros(len(columns), dtype=np.int64)
    row = np.arange(len(columns))
    while (inner := tree.left[at] >= 0).any():
        goes_left = columns[row, tree.feature[at]] <= tree.threshold[at]
        at = np.where(inner, np.where(goes_left, tree.left[at], tree.right[at]), at)
    return at
