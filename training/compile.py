"""Compile the fitted trees for serving, so that they take the very same branches.

A split of a fitted tree compares a scaled value with a threshold. Both are turned back here into
what the predictor feeds the compiled trees, each exact in float32:

- whole numbers: the largest whole number that goes left;
- categories: 0 or 1;
- grades: the index of the largest float64 grade that goes left, among all such cut points; the
  predictor counts the cut points below a grade.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pandas as pd
from numpy.typing import NDArray
from onnx import TensorProto, helper
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from student_success.students import CATEGORICAL, FEATURES, GRADE_MAX, GRADE_MIN
from training.pipeline import FILL, GRADES, LOGGED, PLAIN

Floats = NDArray[np.float64]

INTEGERS = tuple(f.name for f in FEATURES if f.kind == "integer")
ALWAYS, NEVER = 1e6, -1e6
_BELOW_ALL_GRADES = -0.5
_NODE_KEYS = (
    "treeids",
    "nodeids",
    "featureids",
    "values",
    "modes",
    "truenodeids",
    "falsenodeids",
)
_TARGET_KEYS = ("treeids", "nodeids", "ids", "weights")


@dataclass(frozen=True, slots=True)
class Tree:
    """One fitted tree: arrays by node, children -1 at a leaf.

    Attributes
    ----------
    single
        Whether the fitted tree sees its inputs as float32.
    value
        ``(nodes, targets)``; what a leaf adds to each output.
    """

    feature: NDArray[np.int64]
    threshold: Floats
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: Floats
    single: bool


@dataclass(frozen=True, slots=True)
class Compiled:
    """The trees in ONNX, and how to make their inputs (the `inputs` of serving.json)."""

    model: bytes
    inputs: dict[str, Any]


def trees_of(change: Pipeline) -> Iterator[Tree]:
    """Yield the trees of a fitted `change_pipeline`; their leaves add up to its prediction."""
    forest = change.named_steps["trees"].estimators_
    for member in forest:
        tree = member.tree_
        yield Tree(
            feature=tree.feature.astype(np.int64),
            threshold=tree.threshold,
            left=tree.children_left.astype(np.int64),
            right=tree.children_right.astype(np.int64),
            value=tree.value[:, :, 0] / len(forest),
            single=True,
        )


class _Columns:
    """Find the input and the cut that stand for a split on a transformed column."""

    def __init__(self, columns: ColumnTransformer) -> None:
        self._scale: dict[str, tuple[float, float]] = {}
        numbers = columns.named_transformers_["numbers"].named_steps["standardscaler"]
        for name, mean, scale in zip(PLAIN, numbers.mean_, numbers.scale_, strict=True):
            self._scale[name] = (mean, scale)
        logged = columns.named_transformers_["logged"].named_steps["standardscaler"]
        for name, mean, scale in zip(LOGGED, logged.mean_, logged.scale_, strict=True):
            self._scale[name] = (mean, scale)
        self._by_name = {f.name: f for f in FEATURES}
        # In the order in which ColumnTransformer lays its columns out.
        self._source: list[tuple[str, str | None]] = [(n, None) for n in (*PLAIN, *LOGGED)]
        self.inputs: list[str] = []
        self.codes: list[dict[str, Any]] = []
        for name in CATEGORICAL:
            values = self._by_name[name].categories
            self._source += [(name, value) for value in values]
            width = 1 if len(values) == 2 else len(values)
            self.inputs += [name] * width if width == 1 else [f"{name}={v}" for v in values]
            self.codes.append(
                {
                    "name": name,
                    "codes": {
                        value: [i] if width == 1 else [int(i == j) for j in range(width)]
                        for i, value in enumerate(values)
                    },
                }
            )
        self.inputs += [*INTEGERS, *GRADES]
        self._at = {name: i for i, name in enumerate(self.inputs)}

    def split(self, column: int, threshold: float, single: bool) -> tuple[str, int, float, bool]:
        """Return name and index of the input, its cut, and whether left and right are swapped."""
        name, value = self._source[column]
        if value is not None:
            values = self._by_name[name].categories
            cut = ALWAYS if threshold >= 1 else 0.5 if threshold >= 0 else NEVER
            if len(values) == 2:
                # The second value is the 1 of the input; a split on the first one is its mirror.
                swap = value == values[0] and cut == 0.5
                return name, self._at[name], cut, swap
            return name, self._at[f"{name}={value}"], cut, False
        if name in GRADES:
            return name, self._at[name], self._grade_cut(name, threshold, single), False
        return name, self._at[name], self._integer_cut(name, threshold, single), False

    def _goes_left(self, name: str, x: Floats, threshold: float, single: bool) -> NDArray[np.bool_]:
        mean, scale = self._scale[name]
        scaled = ((np.log1p(x) if name in LOGGED else x) - mean) / scale
        if single:
            scaled = scaled.astype(np.float32).astype(np.float64)
        return np.asarray(scaled <= threshold)

    def _integer_cut(self, name: str, threshold: float, single: bool) -> float:
        feature = self._by_name[name]
        assert feature.low is not None
        assert feature.high is not None
        values = np.arange(feature.low, feature.high + 1)
        left = values[self._goes_left(name, values, threshold, single)]
        return float(left[-1]) + 0.5 if len(left) else NEVER

    def _grade_cut(self, name: str, threshold: float, single: bool) -> float:
        """Return the largest grade that goes left, by bisection over the float64 numbers."""

        def left(x: float) -> bool:
            return bool(self._goes_left(name, np.array([x]), threshold, single)[0])

        if left(GRADE_MAX):
            return GRADE_MAX
        if not left(GRADE_MIN):
            return _BELOW_ALL_GRADES if left(FILL) else 2 * FILL
        low, high = (int(np.float64(x).view(np.int64)) for x in (GRADE_MIN, GRADE_MAX))
        while high - low > 1:
            middle = (low + high) // 2
            if left(float(np.int64(middle).view(np.float64))):
                low = middle
            else:
                high = middle
        return float(np.int64(low).view(np.float64))


def compile_trees(columns: ColumnTransformer, trees: Sequence[Tree]) -> Compiled:
    """Write the trees as one ONNX node with as many outputs as a leaf has values.

    Parameters
    ----------
    columns
        The fitted preprocessor in front of all of the trees.
    """
    layout = _Columns(columns)
    found: dict[tuple[int, float, bool], tuple[str, int, float, bool]] = {}
    for tree in trees:
        for node in np.flatnonzero(tree.left >= 0).tolist():
            key = (int(tree.feature[node]), float(tree.threshold[node]), tree.single)
            if key not in found:
                found[key] = layout.split(*key)
    cuts = {
        grade: sorted({cut for name, _, cut, _ in found.values() if name == grade})
        for grade in GRADES
    }
    # A grade is fed as the number of cuts below it: it goes left of cut i when that is <= i.
    position = {grade: {cut: i + 0.5 for i, cut in enumerate(cuts[grade])} for grade in GRADES}
    nodes = _Nodes()
    for number, tree in enumerate(trees):
        for node in range(len(tree.left)):
            if tree.left[node] < 0:
                nodes.leaf(number, node, tree.value[node])
                continue
            name, at, cut, swap = found[
                int(tree.feature[node]), float(tree.threshold[node]), tree.single
            ]
            cut = position[name][cut] if name in GRADES else cut
            left, right = int(tree.left[node]), int(tree.right[node])
            nodes.branch(number, node, at, cut, (right, left) if swap else (left, right))
    inputs = {
        "names": layout.inputs,
        "categories": layout.codes,
        "integers": list(INTEGERS),
        "cuts": cuts,
        "fill": FILL,
    }
    return Compiled(nodes.model(len(layout.inputs), trees[0].value.shape[1]), inputs)


class _Nodes:
    """Collect the attributes of a `TreeEnsembleRegressor`."""

    def __init__(self) -> None:
        self._node: dict[str, list[Any]] = {key: [] for key in _NODE_KEYS}
        self._target: dict[str, list[Any]] = {key: [] for key in _TARGET_KEYS}

    def _add(self, *values: Any) -> None:
        for column, value in zip(self._node.values(), values, strict=True):
            column.append(value)

    def branch(self, tree: int, node: int, at: int, cut: float, children: tuple[int, int]) -> None:
        self._add(tree, node, at, cut, "BRANCH_LEQ", *children)

    def leaf(self, tree: int, node: int, value: Floats) -> None:
        self._add(tree, node, 0, 0.0, "LEAF", 0, 0)
        for target in np.flatnonzero(value).tolist() or [0]:
            for column, item in zip(
                self._target.values(), (tree, node, int(target), float(value[target])), strict=True
            ):
                column.append(item)

    def model(self, width: int, targets: int) -> bytes:
        attributes = {f"nodes_{key}": value for key, value in self._node.items()}
        attributes |= {f"target_{key}": value for key, value in self._target.items()}
        node = helper.make_node(
            "TreeEnsembleRegressor",
            ["x"],
            ["y"],
            domain="ai.onnx.ml",
            n_targets=targets,
            aggregate_function="SUM",
            post_transform="NONE",
            **attributes,
        )
        graph = helper.make_graph(
            [node],
            "trees",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, targets])],
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("", 18)],
            ir_version=9,
            producer_name="student-success",
        )
        onnx.checker.check_model(model)
        data: bytes = model.SerializeToString(deterministic=True)
        return data


def frame_of(students: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return pupils as the table that the fitted estimator takes."""
    frame = pd.DataFrame(list(students))[[f.name for f in FEATURES]]
    return frame.astype(dict.fromkeys(GRADES, np.float64))
