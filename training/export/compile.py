"""Compile the fitted trees for serving, so that they take exactly the same branches.

Each horizon gets its own trees: splits on values that are constant there (an unknown grade, the
number of known grades) are resolved now, so the trees are smaller and test only features.

A split of a fitted tree compares a scaled value with a threshold. Both are converted to the inputs
of the compiled trees, which are exact in float32:

- whole numbers: the largest whole number that goes left;
- categories: 0 or 1;
- grades and their trend: the index of the largest float64 number that goes left, among all such
  cut points; the predictor counts the cut points below a grade.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from grade_models import GRADES, with_derived
from student_success.domain.students import CATEGORICAL, FEATURES, Horizon
from training.export.onnx_writer import Nodes
from training.export.splits import CUT, INTEGERS, Question, Splits
from training.export.trees import Tree, leaves_of, trees_of
from training.fitting.families import Model

Floats = NDArray[np.float64]

_MINIMUM_COVER = 1 / 64
_BY_NAME = {feature.name: feature for feature in FEATURES}


@dataclass(frozen=True, slots=True)
class Compiled:
    """The trees of each horizon in ONNX, and how to encode their inputs (see serving.json)."""

    trees: Mapping[Horizon, bytes]
    inputs: dict[str, Any]


@dataclass(slots=True)
class _Flat:
    """One tree of one horizon: a branch is a test and two positions, a leaf is None."""

    tests: list[Question | None] = field(default_factory=list)
    cover: list[float] = field(default_factory=list)
    children: list[tuple[int, int]] = field(default_factory=list)
    source: list[int] = field(default_factory=list)

    def grow(self, tree: Tree, splits: Splits, horizon: Horizon) -> _Flat:
        """Copy the tree, leaving out every branch that no pupil of the horizon can take."""
        self._copy(tree, splits, horizon, 0, {})
        return self

    def weigh(self, leaves: NDArray[np.int64]) -> _Flat:
        """Count the pupils that reached each node, given the leaf of each pupil.

        A small amount is added to each count, so that no share of a parent's pupils is zero.
        """
        counts = np.bincount(leaves, minlength=max(self.source) + 1)
        self.cover = [_MINIMUM_COVER + float(counts[node]) for node in self.source]
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
        test: Question | None = None
        while tree.left[node] >= 0:
            question = splits.question(
                int(tree.feature[node]), float(tree.threshold[node]), tree.single, horizon
            )
            if isinstance(question, Question):
                low, high = within.get(question.name, (-np.inf, np.inf))
                if low < question.cut < high:
                    test = question
                    break
                # An earlier test on the same input already decides this one.
                goes_left = (question.cut >= high) != question.swap
            else:
                goes_left = question
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


def compile_model(model: Model, rows: pd.DataFrame, horizons: NDArray[np.str_]) -> Compiled:
    """Write the trees of each horizon as one ONNX node.

    Parameters
    ----------
    rows
        The pupils that the model was fitted on; the number that reaches each node is recorded for
        the explanations.
    horizons
        Of each row.
    """
    splits = Splits(model.columns_)
    trees = list(trees_of(model))
    columns = model.columns_.transform(with_derived(rows))
    flats = {
        h: [
            _Flat().grow(tree, splits, h).weigh(leaves_of(tree, columns[horizons == h]))
            for tree in trees
        ]
        for h in Horizon
    }
    tests = [t for flat in flats.values() for tree in flat for t in tree.tests if t is not None]
    cuts = {name: sorted({t.cut for t in tests if t.name == name}) for name in CUT}
    position = {name: {cut: i + 0.5 for i, cut in enumerate(cuts[name])} for name in CUT}
    names, codes = _layout()
    at = {name: i for i, name in enumerate(names)}
    compiled = {}
    for horizon, flat in flats.items():
        nodes = Nodes()
        for number, (compact, tree) in enumerate(zip(flat, trees, strict=True)):
            for node, test in enumerate(compact.tests):
                if test is None:
                    value = tree.value[compact.source[node]]
                    nodes.leaf(number, node, value, cover=compact.cover[node])
                else:
                    cut = position[test.name][test.cut] if test.name in CUT else test.cut
                    nodes.branch(
                        number,
                        node,
                        at[test.name],
                        cut,
                        compact.children[node],
                        cover=compact.cover[node],
                    )
        compiled[horizon] = nodes.model(len(names), trees[0].value.shape[1])
    inputs = {"names": names, "categories": codes, "integers": list(INTEGERS), "cuts": cuts}
    return Compiled(compiled, inputs)


def _layout() -> tuple[list[str], list[dict[str, Any]]]:
    """Return the inputs in order, and the numbers that encode each category."""
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


def frame_of(students: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return pupils as the table that the fitted estimator takes."""
    frame = pd.DataFrame(list(students))[[f.name for f in FEATURES]]
    return frame.astype(dict.fromkeys(GRADES, np.float64))
