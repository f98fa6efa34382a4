"""Compile the fitted trees for serving, so that they take the very same branches.

Each horizon gets trees of its own: what is constant there (a grade that is not known, how many
are) is decided now, so the trees are smaller and what they compare is the pupil's own features.

A split of a fitted tree compares a scaled value with a threshold. Both are turned back here into
what the predictor feeds the compiled trees, each exact in float32:

- whole numbers: the largest whole number that goes left;
- categories: 0 or 1;
- grades and their trend: the index of the largest float64 number that goes left, among all such
  cut points; the predictor counts the cut points below a grade.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pandas as pd
from numpy.typing import NDArray
from onnx import TensorProto, helper
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor

from grade_models import DERIVED, FILL, LOGGED, GradeForest, GradeRegressor, with_derived
from student_success.students import CATEGORICAL, FEATURES, GRADE_MAX, GRADE_MIN, Horizon
from training.pipeline import GRADES, Model

Floats = NDArray[np.float64]

INTEGERS = tuple(f.name for f in FEATURES if f.kind == "integer")
TREND = "trend"
CUT = (*GRADES, TREND)
"""Inputs that are fed as the number of cut points below them."""
RANGES = {"G1": (GRADE_MIN, GRADE_MAX), "G2": (GRADE_MIN, GRADE_MAX), TREND: (-20.0, 20.0)}
CONSTANT: Mapping[Horizon, Mapping[str, float]] = {
    Horizon.NONE: {"G1": FILL, "G2": FILL, "last": FILL, TREND: 0.0, "known": 0.0},
    Horizon.G1: {"G2": FILL, TREND: 0.0, "known": 1.0},
    Horizon.G1_G2: {"known": 2.0},
}
"""What a derived column or an unknown grade is worth at a horizon, whoever the pupil."""
LAST: Mapping[Horizon, str] = {Horizon.G1: "G1", Horizon.G1_G2: "G2"}
"""Which grade is the last known one."""

_HAIR = 1 / 64
_SLOPED = (*GRADES, *DERIVED)
_BY_NAME = {feature.name: feature for feature in FEATURES}


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


@dataclass(frozen=True, slots=True)
class Compiled:
    """The trees of each horizon in ONNX, and how to make their inputs (see serving.json)."""

    trees: Mapping[Horizon, bytes]
    inputs: dict[str, Any]


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
        # The constant the boosting starts from, as a tree of one leaf.
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
    """Yield one tree a column, one leaf a value: exact for all but grades, see `slopes_of`."""
    yield _leaf(float(model.regressor_.intercept_))
    splits = Splits(model.columns_)
    for column, weight in enumerate(model.regressor_.coef_):
        name, category = splits.source[column]
        if name in _SLOPED:
            continue
        if category is not None:
            scaled = np.array([0.0, 1.0])
        else:
            low, high = _bounds(name)
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


@dataclass(frozen=True, slots=True)
class _Test:
    """One split as the predictor can make it: ``values[name] <= cut``, ends perhaps swapped."""

    name: str
    cut: float
    swap: bool = False


class Splits:
    """Turn splits on scaled columns into tests on a pupil's own features."""

    def __init__(self, columns: ColumnTransformer) -> None:
        self.scale: dict[str, tuple[float, float]] = {}
        self.source: list[tuple[str, str | None]] = []
        numbers = columns.named_transformers_["numbers"]
        logged = columns.named_transformers_["logged"].named_steps["standardscaler"]
        for scaler, names in ((numbers, columns.transformers_[0][2]), (logged, LOGGED)):
            for name, mean, scale in zip(names, scaler.mean_, scaler.scale_, strict=True):
                self.scale[name] = (mean, scale)
                self.source.append((name, None))
        encoder = columns.named_transformers_["categories"]
        dropped = encoder.drop_idx_ if encoder.drop_idx_ is not None else [None] * 99
        for name, values, drop in zip(
            columns.transformers_[2][2], encoder.categories_, dropped, strict=False
        ):
            self.source += [(name, str(v)) for i, v in enumerate(values) if i != drop]
        self._known: dict[tuple[int, float, bool, Horizon], _Test | bool] = {}

    def scaled(self, name: str, x: float) -> np.float64:
        """Scale a number as the fitted columns do."""
        mean, scale = self.scale[name]
        return np.float64((np.log1p(x) if name in LOGGED else x) - mean) / scale

    def test(self, column: int, threshold: float, single: bool, horizon: Horizon) -> _Test | bool:
        """Return the test, or which way every pupil of the horizon goes: True for left."""
        key = (column, threshold, single, horizon)
        if key not in self._known:
            self._known[key] = self._find(*key)
        return self._known[key]

    def _find(self, column: int, threshold: float, single: bool, horizon: Horizon) -> _Test | bool:
        name, value = self.source[column]
        if value is not None:
            return _category_test(name, value, threshold)

        def left(x: float) -> bool:
            scaled = self.scaled(name, x)
            # Back to float64 before it is compared, or numpy would round the threshold instead.
            return bool((np.float64(np.float32(scaled)) if single else scaled) <= threshold)

        if name in CONSTANT[horizon]:
            return left(CONSTANT[horizon][name])
        asked = LAST[horizon] if name == "last" else name
        low, high = RANGES.get(asked) or _bounds(asked)
        if left(high):
            return True
        if not left(low):
            return False
        return _Test(asked, _last_left(left, low, high, whole=asked not in CUT))


def _bounds(name: str) -> tuple[float, float]:
    low, high = _BY_NAME[name].low, _BY_NAME[name].high
    assert low is not None
    assert high is not None
    return low, high


def _category_test(name: str, value: str, threshold: float) -> _Test | bool:
    if not 0 <= threshold < 1:
        return threshold >= 1
    values = _BY_NAME[name].categories
    if len(values) == 2:
        # The input is 1 for the second value; a split on the first one is its mirror.
        return _Test(name, 0.5, swap=value == values[0])
    return _Test(f"{name}={value}", 0.5)


def _last_left(left: Callable[[float], bool], low: float, high: float, *, whole: bool) -> float:
    """Return the largest number that goes left, given that `low` does and `high` does not."""
    first, last = (int(low), int(high)) if whole else (_rank(low), _rank(high))
    while last - first > 1:
        middle = (first + last) // 2
        if left(middle if whole else _number(middle)):
            first = middle
        else:
            last = middle
    return first + 0.5 if whole else _number(first)


def _rank(x: float) -> int:
    """Return the place of a float64 number among all of them."""
    bits = int(np.float64(x).view(np.int64))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFFFFFFFFFF)


def _number(rank: int) -> float:
    """Return the float64 number of a rank."""
    return float(np.int64(abs(rank)).view(np.float64)) * (1 if rank >= 0 else -1)


@dataclass(slots=True)
class _Flat:
    """One tree of one horizon: a branch is a test and two positions, a leaf is None."""

    tests: list[_Test | None] = field(default_factory=list)
    cover: list[float] = field(default_factory=list)
    children: list[tuple[int, int]] = field(default_factory=list)
    source: list[int] = field(default_factory=list)

    def grow(self, tree: Tree, splits: Splits, horizon: Horizon) -> _Flat:
        """Copy the tree, leaving out every branch that no pupil of the horizon can take."""
        self._copy(tree, splits, horizon, 0, {})
        return self

    def weigh(self, leaves: NDArray[np.int64]) -> _Flat:
        """Count in every node the pupils that reached it, given the leaf of each.

        The count is raised by a hair, so that no share of a parent's pupils is zero.
        """
        counts = np.bincount(leaves, minlength=max(self.source) + 1)
        self.cover = [_HAIR + float(counts[node]) for node in self.source]
        for at in reversed(range(len(self.tests))):
            if self.tests[at] is not None:
                left, right = self.children[at]
                self.cover[at] = self.cover[left] + self.cover[right]
        return self

    def _copy(
        self,
        tree: Tree,
        splits: Splits,
        horizon: Horizon,
        node: int,
        within: dict[str, tuple[float, float]],
    ) -> int:
        test: _Test | None = None
        while tree.left[node] >= 0:
            found = splits.test(
                int(tree.feature[node]), float(tree.threshold[node]), tree.single, horizon
            )
            if isinstance(found, _Test):
                low, high = within.get(found.name, (-np.inf, np.inf))
                if low < found.cut < high:
                    test = found
                    break
                # An earlier test on the same input has settled this one.
                goes_left = (found.cut >= high) != found.swap
            else:
                goes_left = found
            node = int(tree.left[node] if goes_left else tree.right[node])
        at = len(self.tests)
        self.tests.append(test)
        self.children.append((0, 0))
        self.source.append(node)
        if test is not None:
            low, high = within.get(test.name, (-np.inf, np.inf))
            left, right = int(tree.left[node]), int(tree.right[node])
            if test.swap:
                left, right = right, left
            below = within | {test.name: (low, test.cut)}
            above = within | {test.name: (test.cut, high)}
            self.children[at] = (
                self._copy(tree, splits, horizon, left, below),
                self._copy(tree, splits, horizon, right, above),
            )
        return at


def _leaves(tree: Tree, columns: Floats) -> NDArray[np.int64]:
    """Return the leaf that each row of scaled columns falls into."""
    if tree.single:
        columns = columns.astype(np.float32).astype(np.float64)
    at = np.zeros(len(columns), dtype=np.int64)
    row = np.arange(len(columns))
    while (inner := tree.left[at] >= 0).any():
        goes_left = columns[row, tree.feature[at]] <= tree.threshold[at]
        at = np.where(inner, np.where(goes_left, tree.left[at], tree.right[at]), at)
    return at


def compile_model(model: Model, rows: pd.DataFrame, horizons: NDArray[np.str_]) -> Compiled:
    """Write the trees of each horizon as one ONNX node.

    Parameters
    ----------
    rows
        The pupils that the model learnt from; how many reach a node is recorded with it, for the
        explanations.
    horizons
        Of each row.
    """
    splits = Splits(model.columns_)
    trees = list(trees_of(model))
    columns = model.columns_.transform(with_derived(rows))
    flats = {
        h: [
            _Flat().grow(tree, splits, h).weigh(_leaves(tree, columns[horizons == h]))
            for tree in trees
        ]
        for h in Horizon
    }
    tests = [t for flat in flats.values() for one in flat for t in one.tests if t is not None]
    cuts = {name: sorted({t.cut for t in tests if t.name == name}) for name in CUT}
    position = {name: {cut: i + 0.5 for i, cut in enumerate(cuts[name])} for name in CUT}
    names, codes = _layout()
    at = {name: i for i, name in enumerate(names)}
    compiled = {}
    for horizon, flat in flats.items():
        nodes = _Nodes()
        for number, (one, tree) in enumerate(zip(flat, trees, strict=True)):
            for node, test in enumerate(one.tests):
                if test is None:
                    value = tree.value[one.source[node]]
                    nodes.leaf(number, node, value, cover=one.cover[node])
                else:
                    cut = position[test.name][test.cut] if test.name in CUT else test.cut
                    nodes.branch(
                        number, node, at[test.name], cut, one.children[node], cover=one.cover[node]
                    )
        compiled[horizon] = nodes.model(len(names), trees[0].value.shape[1])
    inputs = {"names": names, "categories": codes, "integers": list(INTEGERS), "cuts": cuts}
    return Compiled(compiled, inputs)


def _layout() -> tuple[list[str], list[dict[str, Any]]]:
    """Return the inputs in order, and the numbers that stand for each category."""
    names: list[str] = []
    codes = []
    for name in CATEGORICAL:
        values = _BY_NAME[name].categories
        width = 1 if len(values) == 2 else len(values)
        names += [name] if width == 1 else [f"{name}={value}" for value in values]
        table = {
            value: [i] if width == 1 else [int(i == j) for j in range(width)]
            for i, value in enumerate(values)
        }
        codes.append({"name": name, "codes": table})
    return [*names, *INTEGERS, *CUT], codes


_NODE_KEYS = (
    "treeids",
    "nodeids",
    "featureids",
    "values",
    "modes",
    "truenodeids",
    "falsenodeids",
    "hitrates",
)
_TARGET_KEYS = ("treeids", "nodeids", "ids", "weights")


class _Nodes:
    """Collect the attributes of a `TreeEnsembleRegressor`."""

    def __init__(self) -> None:
        self._node: dict[str, list[Any]] = {key: [] for key in _NODE_KEYS}
        self._target: dict[str, list[Any]] = {key: [] for key in _TARGET_KEYS}

    def _add(self, *values: Any) -> None:
        for column, value in zip(self._node.values(), values, strict=True):
            column.append(value)

    def branch(
        self, tree: int, node: int, at: int, cut: float, children: tuple[int, int], *, cover: float
    ) -> None:
        self._add(tree, node, at, cut, "BRANCH_LEQ", *children, cover)

    def leaf(self, tree: int, node: int, value: Floats, *, cover: float) -> None:
        self._add(tree, node, 0, 0.0, "LEAF", 0, 0, cover)
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
