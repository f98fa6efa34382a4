"""Read and check the trees of an ONNX file.

The check is a security boundary: onnxruntime executes whatever operators a file contains, and loops
forever on trees that lead back to themselves. Only one `TreeEnsembleRegressor`, as our compiler
writes it, is accepted. The `onnx` package decodes the file, because one model has many valid
encodings. It is imported on first use (25 ms, 6 MB): predictions do not need it.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from student_success.core.errors import ArtefactError

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float32]

UNPACKED_BYTES = 256 << 20
"""Maximum size of one set of trees; the seed's take a hundredth of that."""

_OPERATOR = ("ai.onnx.ml", "TreeEnsembleRegressor")
_INTS = {
    "tree": "nodes_treeids",
    "node": "nodes_nodeids",
    "feature": "nodes_featureids",
    "low": "nodes_truenodeids",
    "high": "nodes_falsenodeids",
    "target_tree": "target_treeids",
    "target_node": "target_nodeids",
    "target": "target_ids",
}
_FLOATS = {"cut": "nodes_values", "cover": "nodes_hitrates", "weight": "target_weights"}
"""Fields of `Nodes` and the attributes of the operator that hold them."""
_CONSTANTS = {"aggregate_function": b"SUM", "post_transform": b"NONE"}


@dataclass(frozen=True, slots=True)
class Nodes:
    """All nodes of all trees, in the order of the file; a leaf has no children (0, 0).

    Attributes
    ----------
    cover
        How many pupils reached each node in training.
    target_tree, target_node, target, weight
        What leaves add to outputs, one entry for each leaf and output.
    """

    tree: _Ints
    node: _Ints
    feature: _Ints
    cut: _Floats
    low: _Ints
    high: _Ints
    cover: _Floats
    target_tree: _Ints
    target_node: _Ints
    target: _Ints
    weight: _Floats


def read_trees(path: Path) -> Nodes:
    """Read the trees of a compressed ONNX file.

    Raises
    ------
    ArtefactError
        If the file is damaged, too large, or contains anything but one well-formed tree ensemble.
    """
    try:
        with gzip.open(path) as packed:
            content = packed.read(UNPACKED_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ArtefactError(f"The model file {path.name} cannot be decompressed.") from error
    if len(content) > UNPACKED_BYTES:
        raise ArtefactError(f"The model file {path.name} is too large.")
    graph = _only_graph(content, path.name)
    try:
        (columns,), (targets,) = (
            [value.type.tensor_type.shape.dim[1].dim_value for value in values]
            for values in (graph.input, graph.output)
        )
        nodes, branch = _nodes(graph.node[0], targets)
        well_formed = _is_well_formed(nodes, branch, columns=columns, targets=targets)
    except (ValueError, KeyError, IndexError) as error:
        raise ArtefactError(f"The model file {path.name} contains malformed trees.") from error
    if not well_formed:
        raise ArtefactError(f"The model file {path.name} contains malformed trees.")
    return nodes


def _only_graph(content: bytes, name: str) -> Any:
    """Decode a model that consists of one tree operator and nothing else."""
    from onnx import ModelProto

    model = ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as error:  # protobuf's own type, which `onnx` does not export
        raise ArtefactError(f"The model file {name} is not an ONNX model.") from error
    graph, size = model.graph, model.ByteSize()
    # onnxruntime may know fields that this version of `onnx` does not.
    model.DiscardUnknownFields()
    extras = (
        *(model.functions, model.training_info, graph.initializer, graph.sparse_initializer),
        *(graph.quantization_annotation, graph.value_info),
    )
    operators = [(node.domain, node.op_type) for node in graph.node]
    if operators != [_OPERATOR] or any(extras) or model.ByteSize() != size:
        raise ArtefactError(f"The model file {name} contains something other than trees.")
    return graph


def _nodes(operator: Any, targets: int) -> tuple[Nodes, NDArray[np.bool_]]:
    """Return the nodes, and which of them are branches; raises `ValueError` for other attributes.

    An attribute must hold one list only, and occur once: readers may choose differently.
    """
    found = {attribute.name: attribute for attribute in operator.attribute}
    fields = {
        name: {field.name for field, _ in attribute.ListFields()} - {"name", "type"}
        for name, attribute in found.items()
    }
    expected = {name: {"ints"} for name in _INTS.values()}
    expected |= {name: {"floats"} for name in _FLOATS.values()}
    expected |= {name: {"s"} for name in _CONSTANTS}
    expected |= {"nodes_modes": {"strings"}, "n_targets": {"i"}}
    if fields != expected or len(operator.attribute) != len(expected):
        raise ValueError("other attributes")
    modes = np.array(found["nodes_modes"].strings)
    branch = modes == b"BRANCH_LEQ"
    if (
        {name: found[name].s for name in _CONSTANTS} != _CONSTANTS
        or found["n_targets"].i != targets
        or not (branch | (modes == b"LEAF")).all()
    ):
        raise ValueError("other values")
    lists: dict[str, Any] = {
        **{field: np.array(found[name].ints, dtype=np.int64) for field, name in _INTS.items()},
        **{field: np.array(found[name].floats, np.float32) for field, name in _FLOATS.items()},
    }
    return Nodes(**lists), branch


def _is_well_formed(nodes: Nodes, branch: NDArray[np.bool_], *, columns: int, targets: int) -> bool:
    """Return whether every tree is a binary tree of finite numbers whose indices are in range.

    Our compiler numbers the nodes of a tree from 0 in one block, and children after their parent,
    so no path can lead back.
    """
    count, entries = len(nodes.tree), len(nodes.target)
    by_node = (nodes.node, nodes.feature, nodes.cut, nodes.low, nodes.high, nodes.cover, branch)
    by_target = (nodes.target_tree, nodes.target_node, nodes.weight)
    if (
        not count
        or {len(a) for a in by_node} != {count}
        or {len(a) for a in by_target} != {entries}
    ):
        return False
    starts = np.flatnonzero(np.diff(nodes.tree, prepend=-1))
    sizes = np.diff(np.append(starts, count))
    if not np.array_equal(nodes.tree, np.repeat(np.arange(len(starts)), sizes)):
        return False
    start = np.repeat(starts, sizes)
    children = np.concatenate([(start + side)[branch] for side in (nodes.low, nodes.high)])
    roots = np.zeros(count, dtype=bool)
    roots[starts] = True
    if not (
        np.array_equal(nodes.node, np.arange(count) - start)
        and (np.minimum(nodes.low, nodes.high)[branch] > nodes.node[branch]).all()
        and not (nodes.low[~branch].any() or nodes.high[~branch].any())
        # Each node but the roots is the child of exactly one other.
        and np.array_equal(np.sort(children), np.flatnonzero(~roots))
        # A child in another tree would have been counted in that tree.
        and (np.maximum(nodes.low, nodes.high) < np.repeat(sizes, sizes)).all()
    ):
        return False
    tree, node = nodes.target_tree, nodes.target_node
    return bool(
        np.isfinite(nodes.cut).all()
        and np.isfinite(nodes.weight).all()
        and np.isfinite(nodes.cover).all()
        and (nodes.cover > 0).all()
        and ((nodes.feature >= 0) & (nodes.feature < columns)).all()
        and ((nodes.target >= 0) & (nodes.target < targets)).all()
        and ((tree >= 0) & (tree < len(starts))).all()
        and ((node >= 0) & (node < sizes[tree])).all()
        and not branch[starts[tree] + node].any()
    )
