"""Exact Shapley values of the compiled trees, in numpy.

They are those of path-dependent TreeSHAP (Lundberg et al., From local explanations to global
understanding with explainable AI for trees, 2020): a feature outside the coalition sends the pupil
down both branches, in the shares of the training pupils. A leaf is then a product over
the features of its path, and a feature's Shapley value an integral over products:
(o − z) · ∫ Π (t·o' + (1 − t)·z') dt over the other features, with o whether the pupil's value
leads to the leaf and z the share of training pupils that goes there. Gauss-Legendre quadrature
takes the integral exactly, as the product is a polynomial.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from student_success.model.onnx_reader import Nodes

Floats = NDArray[np.float64]
_WIDTHS = (4, 6, 8, 10, 12, 16, 32)
"""Leaves are grouped by the number of features on their paths, up to these numbers."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Leaves with paths of similar length; arrays are ``(width, leaves)``, neutral where unused."""

    leaves: NDArray[np.int64]
    column: NDArray[np.int64]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    share: NDArray[np.float32]
    points: NDArray[np.float32]
    weights: NDArray[np.float32]


class Attribution:
    """The trees of one horizon as a table of leaves.

    Attributes
    ----------
    average
        ``(targets,)``: output of the trees for the average pupil.
    """

    def __init__(self, nodes: Nodes, *, columns: int, targets: int) -> None:
        self._columns = columns
        leaves = _Leaves(nodes)
        # In single precision the sixth decimal of a share would depend on the processor.
        self._values = np.zeros((len(leaves.at), targets))
        where = [
            leaves.at[key]
            for key in zip(nodes.target_tree.tolist(), nodes.target_node.tolist(), strict=True)
        ]
        self._values[where, nodes.target] = nodes.weight
        self.average: Floats = np.asarray(leaves.reached) @ self._values
        self._groups = list(leaves.grouped())

    def shares(self, inputs: NDArray[np.float32]) -> Floats:
        """Return what each input adds to each output, from `average` to the output of the trees.

        Parameters
        ----------
        inputs
            ``(columns,)``, the inputs of the compiled trees.

        Returns
        -------
        array
            ``(columns, targets)``.
        """
        sums = np.zeros((self._columns, len(self._values)), dtype=np.float32)
        for group in self._groups:
            x = inputs[group.column]
            difference = ((x > group.low) & (x <= group.high)) - group.share
            integral = np.zeros_like(difference)
            for point, weight in zip(group.points, group.weights, strict=True):
                factors = point * difference
                factors += group.share
                product = factors.prod(axis=0)
                product *= weight
                np.divide(product, factors, out=factors)
                integral += factors
            integral *= difference
            # A path contains a column once, so no entry is written twice.
            for column, added in zip(group.column, integral, strict=True):
                sums[column, group.leaves] += added
        return np.asarray(sums @ self._values)


class _Leaves:
    """The path of every leaf as flat lists: for each column its bounds and share of pupils."""

    def __init__(self, nodes: Nodes) -> None:
        self.at: dict[tuple[int, int], int] = {}
        self.reached: list[float] = []
        self._size: list[int] = []
        self._column: list[int] = []
        self._bounds: list[tuple[float, float, float]] = []
        low, high = nodes.low.tolist(), nodes.high.tolist()
        feature, cut, cover = nodes.feature.tolist(), nodes.cut.tolist(), nodes.cover.tolist()
        starts = np.flatnonzero(np.diff(nodes.tree, prepend=-1)).tolist()
        for tree, start in enumerate(starts):
            # The nodes of a tree are contiguous, in the order of their numbers.
            pending: list[tuple[int, dict[int, tuple[float, float, float]]]] = [(0, {})]
            while pending:
                node, path = pending.pop()
                i = start + node
                if not high[i]:
                    self._add(tree, node, path, cover[i] / cover[start])
                    continue
                column = feature[i]
                lower, upper, share = path.get(column, (-np.inf, np.inf, 1.0))
                left, right = cover[start + low[i]] / cover[i], cover[start + high[i]] / cover[i]
                pending.append((low[i], {**path, column: (lower, cut[i], share * left)}))
                pending.append((high[i], {**path, column: (cut[i], upper, share * right)}))

    def _add(
        self, tree: int, node: int, path: dict[int, tuple[float, float, float]], reached: float
    ) -> None:
        self.at[tree, node] = len(self.at)
        self.reached.append(reached)
        self._size.append(len(path))
        self._column += path
        self._bounds += path.values()

    def grouped(self) -> Iterator[_Group]:
        """Yield the leaves by the length of their paths."""
        sizes = np.array(self._size)
        ends = np.cumsum(sizes)
        columns = np.array(self._column, dtype=np.int64)
        bounds = np.array(self._bounds, dtype=np.float32).reshape(-1, 3)
        smallest = 0
        for width in _WIDTHS:
            leaves = np.flatnonzero((sizes > smallest) & (sizes <= width))
            smallest = width
            if not len(leaves):
                continue
            place = np.arange(width)[:, None]
            used = place < sizes[leaves]
            source = np.where(used, (ends - sizes)[leaves] + place, 0)
            points, weights = np.polynomial.legendre.leggauss(-(-width // 2))
            # An unused place accepts every value and keeps every pupil: factor 1, difference 0.
            yield _Group(
                leaves,
                column=np.where(used, columns[source], 0),
                low=np.where(used, bounds[source, 0], np.float32(-np.inf)),
                high=np.where(used, bounds[source, 1], np.float32(np.inf)),
                share=np.where(used, bounds[source, 2], np.float32(1)),
                points=((points + 1) / 2).astype(np.float32),
                weights=(weights / 2).astype(np.float32),
            )
