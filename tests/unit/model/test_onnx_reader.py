"""Only well-formed trees are read, whatever the valid encoding of their file."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from student_success.core.errors import ArtefactError
from student_success.core.paths import ROOT
from student_success.domain.students import Horizon
from student_success.model import onnx_reader
from student_success.model.artefact import trees_file
from student_success.model.onnx_reader import read_trees
from tests.faults.damaged_artefacts import encoded, name_last, packed, plain
from training.export.onnx_writer import Nodes

SEED = ROOT / "student_success" / "seed"
COLUMNS, TARGETS = 3, 2

Change = Callable[[dict[str, onnx.AttributeProto]], None]


def small_model() -> onnx.ModelProto:
    """Return two trees: one of two branches and three leaves, and one of a single leaf."""
    nodes = Nodes()
    nodes.branch(0, 0, 0, 0.5, (1, 2), cover=3.0)
    nodes.leaf(0, 1, np.array([1.0, 2.0]), cover=1.0)
    nodes.branch(0, 2, 2, 1.5, (3, 4), cover=2.0)
    nodes.leaf(0, 3, np.array([0.0, 4.0]), cover=1.0)
    nodes.leaf(0, 4, np.array([5.0, 0.0]), cover=1.0)
    nodes.leaf(1, 0, np.array([0.5, 0.0]), cover=3.0)
    return onnx.load_from_string(nodes.model(COLUMNS, TARGETS))


def attributes_of(model: onnx.ModelProto) -> dict[str, onnx.AttributeProto]:
    return {attribute.name: attribute for attribute in model.graph.node[0].attribute}


def written(folder: Path, content: bytes) -> Path:
    path = folder / "trees.onnx.gz"
    path.write_bytes(gzip.compress(content))
    return path


@pytest.mark.parametrize("horizon", list(Horizon))
def test_read_trees_returns_the_attributes_of_the_seed(horizon: Horizon) -> None:
    path = SEED / trees_file(horizon)
    node = onnx.load_from_string(gzip.decompress(path.read_bytes())).graph.node[0]
    expected = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    nodes = read_trees(path)
    assert nodes.feature.tolist() == list(expected["nodes_featureids"])
    assert nodes.high.tolist() == list(expected["nodes_falsenodeids"])
    assert nodes.cut.tolist() == list(expected["nodes_values"])
    assert nodes.cover.tolist() == list(expected["nodes_hitrates"])
    assert nodes.weight.tolist() == list(expected["target_weights"])
    assert nodes.target.tolist() == list(expected["target_ids"])


@pytest.mark.parametrize("encoding", [plain, packed, name_last])
def test_read_trees_returns_the_same_trees_for_every_encoding(
    tmp_path: Path, encoding: Callable[[onnx.AttributeProto], bytes]
) -> None:
    expected = read_trees(written(tmp_path, small_model().SerializeToString()))
    nodes = read_trees(written(tmp_path, encoded(small_model(), encoding)))
    assert len(nodes.node) == 6
    for field in dataclasses.fields(nodes):
        np.testing.assert_array_equal(getattr(nodes, field.name), getattr(expected, field.name))


def set_int(name: str, index: int, value: int) -> Change:
    return lambda attributes: attributes[name].ints.__setitem__(index, value)


def set_float(name: str, index: int, value: float) -> Change:
    return lambda attributes: attributes[name].floats.__setitem__(index, value)


MALFORMED: dict[str, Change] = {
    "root that is its own child": set_int("nodes_truenodeids", 0, 0),
    "child before its parent": set_int("nodes_truenodeids", 2, 1),
    "child of two parents": set_int("nodes_truenodeids", 2, 4),
    "child outside the tree": set_int("nodes_falsenodeids", 2, 5),
    "negative child": set_int("nodes_falsenodeids", 2, -1),
    "leaf with a child": set_int("nodes_falsenodeids", 4, 5),
    "nodes out of order": set_int("nodes_nodeids", 1, 3),
    "trees out of order": set_int("nodes_treeids", 5, 0),
    "missing tree": set_int("nodes_treeids", 5, 2),
    "input that does not exist": set_int("nodes_featureids", 0, COLUMNS),
    "negative input": set_int("nodes_featureids", 0, -1),
    "output that does not exist": set_int("target_ids", 0, TARGETS),
    "output of a branch": set_int("target_nodeids", 0, 0),
    "output of no node": set_int("target_nodeids", 0, 9),
    "output of no tree": set_int("target_treeids", 0, 2),
    "NaN threshold": set_float("nodes_values", 0, float("nan")),
    "infinite leaf": set_float("target_weights", -1, float("inf")),
    "node that no pupil reached": set_float("nodes_hitrates", 1, 0.0),
    "lists of other lengths": lambda attributes: attributes["nodes_values"].floats.append(0.5),
    "branch named leaf": lambda a: a["nodes_modes"].strings.__setitem__(0, b"LEAF"),
    "another comparison": lambda a: a["nodes_modes"].strings.__setitem__(0, b"BRANCH_GT"),
    "two lists in one attribute": lambda attributes: attributes["nodes_values"].ints.append(1),
    "average instead of sum": lambda a: setattr(a["aggregate_function"], "s", b"AVERAGE"),
    "other number of outputs": lambda attributes: setattr(attributes["n_targets"], "i", 1),
    "attribute of another name": lambda a: setattr(a["nodes_hitrates"], "name", "base_values"),
}


@pytest.mark.parametrize("encoding", [plain, packed, name_last])
@pytest.mark.parametrize("fault", MALFORMED)
def test_read_trees_refuses_malformed_trees_in_every_encoding(
    tmp_path: Path, fault: str, encoding: Callable[[onnx.AttributeProto], bytes]
) -> None:
    model = small_model()
    MALFORMED[fault](attributes_of(model))
    path = written(tmp_path, encoded(model, encoding))
    with pytest.raises(ArtefactError, match="contains malformed trees"):
        read_trees(path)


def test_read_trees_refuses_an_attribute_that_occurs_twice(tmp_path: Path) -> None:
    model = small_model()
    model.graph.node[0].attribute.append(attributes_of(model)["nodes_values"])
    with pytest.raises(ArtefactError, match="contains malformed trees"):
        read_trees(written(tmp_path, model.SerializeToString()))


def add_operator(model: Any) -> None:
    model.graph.node.append(helper.make_node("Identity", ["y"], ["z"]))


def rename_operator(model: Any) -> None:
    model.graph.node[0].op_type = "Loop"


def add_function(model: Any) -> None:
    model.functions.append(
        helper.make_function("own", "F", ["a"], ["b"], [], [helper.make_opsetid("", 18)])
    )


def add_constant(model: Any) -> None:
    model.graph.initializer.append(helper.make_tensor("c", TensorProto.FLOAT, [1], [1.0]))


@pytest.mark.parametrize("change", [add_operator, rename_operator, add_function, add_constant])
def test_read_trees_refuses_a_model_of_something_else(
    tmp_path: Path, change: Callable[[Any], None]
) -> None:
    model = small_model()
    change(model)
    with pytest.raises(ArtefactError, match="something other than trees"):
        read_trees(written(tmp_path, model.SerializeToString()))


def test_read_trees_refuses_unknown_fields(tmp_path: Path) -> None:
    unknown = b"\x92\x3f\x01x"  # field 1010 of the model
    with pytest.raises(ArtefactError, match="something other than trees"):
        read_trees(written(tmp_path, small_model().SerializeToString() + unknown))


def test_read_trees_refuses_a_file_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="not an ONNX model"):
        read_trees(written(tmp_path, b"\xff" * 10))


def test_read_trees_refuses_a_damaged_file(tmp_path: Path) -> None:
    path = written(tmp_path, small_model().SerializeToString())
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ArtefactError, match="cannot be decompressed"):
        read_trees(path)


def test_read_trees_refuses_a_file_that_is_too_large_when_decompressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_reader, "UNPACKED_BYTES", 100)
    with pytest.raises(ArtefactError, match="too large"):
        read_trees(written(tmp_path, small_model().SerializeToString()))
