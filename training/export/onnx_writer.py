"""Write trees as one ONNX node."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

Floats = NDArray[np.float64]

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


class Nodes:
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
        """Add a branch: an input up to the cut leads to the first child, else to the second."""
        self._add(tree, node, at, cut, "BRANCH_LEQ", *children, cover)

    def leaf(self, tree: int, node: int, value: Floats, *, cover: float) -> None:
        """Add a leaf and what it adds to each output."""
        self._add(tree, node, 0, 0.0, "LEAF", 0, 0, cover)
        for target in np.flatnonzero(value).tolist() or [0]:
            for column, item in zip(
                self._target.values(), (tree, node, int(target), float(value[target])), strict=True
            ):
                column.append(item)

    def model(self, width: int, targets: int) -> bytes:
        """Return the model: rows of `width` float32 numbers in, `targets` sums of leaves out."""
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
