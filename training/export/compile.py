"""Compile the fitted model for serving, so that its trees take exactly the same branches.

Each horizon gets its own trees: the change adds to the first output, the logit of leaving to the
second. The inputs are exact in float32: categories and marks of unknown values are 0 or 1, whole
numbers stay, and other numbers become the number of cut points below them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from grade_models import UNKNOWN, GradeModel
from student_success.domain.students import FEATURE_NAMES, FEATURES, HORIZONS, PERIODS, Horizon
from student_success.model.two_parts import TwoParts
from training.export.onnx_writer import Nodes

CHANGE, LEAVES = range(TwoParts.outputs)
_NEVER = -800.0
"""Logit of the chance of leaving, where every training pupil finished."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """The trees of each horizon in ONNX, and how to encode their inputs (see serving.json)."""

    trees: Mapping[Horizon, bytes]
    inputs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Tree:
    """One fitted tree as arrays by node: children 0 at a leaf, `value` there.

    Attributes
    ----------
    count
        Training rows that reached each node.
    """

    column: NDArray[np.int64]
    threshold: NDArray[np.float64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: NDArray[np.float64]
    count: NDArray[np.int64]
    output: int


def compile_model(model: GradeModel) -> Compiled:
    """Write the trees of each horizon as one ONNX node."""
    trees = {horizon: list(_trees(model, known)) for known, horizon in enumerate(HORIZONS)}
    integers = {feature.name for feature in FEATURES if feature.kind == "integer"}
    numbers = [name for name in (*model.fills_, *PERIODS) if name not in integers]
    at = {name: number for number, name in enumerate(model.input_names_)}
    cuts = {name: _cuts(trees.values(), at[name]) for name in numbers}
    positions = {at[name]: {cut: i + 0.5 for i, cut in enumerate(cuts[name])} for name in numbers}
    compiled = {
        horizon: _written(fitted, positions, width=len(at)) for horizon, fitted in trees.items()
    }
    nullable = [name for name in model.fills_ if f"{name}={UNKNOWN}" in at]
    inputs = {
        "names": model.input_names_,
        "categories": [
            _codes(name, categories, known=not model.features[name]["nullable"])
            for name, categories in model.features_with_categories()
        ],
        "integers": list(model.fills_),
        "cuts": cuts,
        "fills": {name: model.fills_[name] for name in nullable},
    }
    return Compiled(compiled, inputs)


def _codes(name: str, categories: Sequence[str], *, known: bool) -> dict[str, Any]:
    if len(categories) == 2 and known:
        return {"name": name, "codes": {categories[0]: [0], categories[1]: [1]}}
    table = {
        value: [int(i == j) for j in range(len(categories))] for i, value in enumerate(categories)
    }
    unknown = {} if known else {"unknown": [0] * len(categories)}
    return {"name": name, "codes": table, **unknown}


def _trees(model: GradeModel, known: int) -> Iterator[_Tree]:
    seen = model.fitted_for(known)
    columns = model.columns(seen, leaving=False)
    yield from _boosted(model.changes_[known], columns, CHANGE)
    leaving = model.leaving_[known]
    if leaving is None:
        yield _leaf(_NEVER, LEAVES)
    else:
        yield from _boosted(leaving, model.columns(seen, leaving=True), LEAVES)


def _boosted(
    boosting: HistGradientBoostingRegressor | HistGradientBoostingClassifier,
    columns: NDArray[np.int64],
    output: int,
) -> Iterator[_Tree]:
    # The initial constant of the boosting, as a tree of one leaf.
    yield _leaf(float(np.ravel(boosting._baseline_prediction)[0]), output)
    for (member,) in boosting._predictors:
        nodes = member.nodes
        leaf = nodes["is_leaf"].astype(bool)
        yield _Tree(
            column=columns[np.where(leaf, 0, nodes["feature_idx"]).astype(np.int64)],
            threshold=nodes["num_threshold"].astype(np.float64),
            left=np.where(leaf, 0, nodes["left"]).astype(np.int64),
            right=np.where(leaf, 0, nodes["right"]).astype(np.int64),
            value=np.where(leaf, nodes["value"], 0.0),
            count=nodes["count"].astype(np.int64),
            output=output,
        )


def _leaf(value: float, output: int) -> _Tree:
    none = np.zeros(1, dtype=np.int64)
    return _Tree(none, np.zeros(1), none, none, np.array([value]), none + 1, output)


def _cuts(horizons: Any, column: int) -> list[float]:
    """Return every threshold that any tree has for an input, rising."""
    found: set[float] = set()
    for trees in horizons:
        for tree in trees:
            found |= set(tree.threshold[(tree.left > 0) & (tree.column == column)].tolist())
    return sorted(found)


def _written(
    trees: Sequence[_Tree], positions: Mapping[int, Mapping[float, float]], *, width: int
) -> bytes:
    nodes = Nodes()
    for number, tree in enumerate(trees):
        for node in range(len(tree.column)):
            cover = float(tree.count[node])
            if not tree.left[node]:
                value = np.zeros(TwoParts.outputs)
                value[tree.output] = tree.value[node]
                nodes.leaf(number, node, value, cover=cover)
                continue
            column, cut = int(tree.column[node]), float(tree.threshold[node])
            nodes.branch(
                number,
                node,
                column,
                positions[column][cut] if column in positions else cut,
                (int(tree.left[node]), int(tree.right[node])),
                cover=cover,
            )
    return nodes.model(width, TwoParts.outputs)


def frame_of(students: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return pupils as the table that the fitted estimator takes."""
    frame = pd.DataFrame(list(students))[list(FEATURE_NAMES)]
    return frame.astype(
        {feature.name: np.float64 for feature in FEATURES if feature.kind != "category"}
    )
