"""Damage the files of a registered model; each function takes the folder of the model."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper

from student_success.domain.students import HORIZONS
from student_success.model.artefact import trees_file
from student_success.model.two_parts import TwoParts
from tests.faults.registered_versions import (
    SEED_FOLDER,
    Alter,
    edit,
    shift_predictions,
    write_manifest,
)
from training.export.onnx_writer import Nodes

TREES = trees_file(HORIZONS[2])
MODEL = "model.skops"
INPUTS = len(json.loads((SEED_FOLDER / "serving.json").read_text("utf-8"))["inputs"]["names"])
EMPTY_OBJECTS = 25_000_000
"""75 megabytes in a file, more than a gigabyte in memory."""
UNPACKED_BYTES = 300 << 20


def truncated(folder: Path) -> None:
    path = folder / "serving" / "serving.json"
    path.write_bytes(path.read_bytes()[:-100])


def bit_flipped(folder: Path) -> None:
    path = folder / "serving" / TREES
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def extra_file(folder: Path) -> None:
    (folder / "python_model.pkl").write_bytes(b"\x80\x04.")


def truncated_with_matching_hashes(folder: Path) -> None:
    path = folder / "serving" / TREES
    path.write_bytes(path.read_bytes()[:-100])
    write_manifest(folder / "serving")


def wrong_schema(folder: Path) -> None:
    path = folder / "serving" / "serving.json"
    inputs = json.loads(path.read_text("utf-8"))["inputs"]
    inputs["categories"] = inputs["categories"][1:]
    edit(path, inputs=inputs)
    write_manifest(folder / "serving")


def nan_answers(folder: Path) -> None:
    edit(folder / "serving" / "serving.json", base=float("nan"))
    write_manifest(folder / "serving")


def nan_leaf(folder: Path) -> None:
    """Put NaN into a leaf that no recorded pupil reaches."""
    _weigh(folder, float("nan"))


def wrong_answers(folder: Path) -> None:
    shift_predictions(folder / "serving", by=0.5)
    write_manifest(folder / "serving")


def no_evaluation(folder: Path, *, champion: str) -> None:
    path = folder / "serving" / "evaluation.json"
    content = json.loads(path.read_text("utf-8"))
    del content["mae"]
    content["champion"] = champion
    path.write_text(json.dumps(content), "utf-8")
    write_manifest(folder / "serving")


def runs_for_ever(folder: Path) -> None:
    """Put an endless loop in place of the trees."""
    one = helper.make_tensor("one", TensorProto.BOOL, [], [True])
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["goes"]),
            helper.make_node("Identity", ["x_in"], ["x_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x_in", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("goes", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x_out", TensorProto.FLOAT, None),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["", "one", "x"], ["y"], body=body)],
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None])],
        [one],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    _replace(folder, model.SerializeToString())


def trees_in_a_circle(folder: Path) -> None:
    """Make the first branch its own child."""
    model, attributes = _nodes(folder)
    at = list(attributes["nodes_modes"].strings).index(b"BRANCH_LEQ")
    attributes["nodes_truenodeids"].ints[at] = attributes["nodes_nodeids"].ints[at]
    _replace(folder, model.SerializeToString())


def packed_trees_in_a_circle(folder: Path) -> None:
    _replace(folder, encoded(small_circle(), packed))


def packed_nan_leaf(folder: Path) -> None:
    _replace(folder, _hidden_nan(folder, packed))


def reordered_nan_leaf(folder: Path) -> None:
    _replace(folder, _hidden_nan(folder, name_last))


def _hidden_nan(folder: Path, encoding: Callable[[onnx.AttributeProto], bytes]) -> bytes:
    """Let the last leaf answer NaN, where no recorded pupil goes, and encode its list otherwise."""
    model, attributes = _nodes(folder)
    attributes["target_weights"].floats[-1] = float("nan")
    return encoded(model, lambda a: encoding(a) if a.name == "target_weights" else plain(a))


def small_circle() -> onnx.ModelProto:
    """Return one tree whose root is its own child, with the inputs and outputs of the seed."""
    nodes = Nodes()
    nodes.branch(0, 0, 0, 0.5, (0, 1), cover=2.0)
    nodes.leaf(0, 1, np.arange(TwoParts.outputs) < 2, cover=1.0)
    return onnx.load_from_string(nodes.model(INPUTS, TwoParts.outputs))


def encoded(model: onnx.ModelProto, attribute: Callable[[onnx.AttributeProto], bytes]) -> bytes:
    """Return another valid encoding of a model of one operator: fields may stand in any order."""
    (operator,) = model.graph.node
    attributes = b"".join(_field(5, attribute(each)) for each in operator.attribute)
    del operator.attribute[:]
    content = attributes + operator.SerializeToString()
    del model.graph.node[:]
    graph = model.graph.SerializeToString() + _field(1, content)
    model.ClearField("graph")
    return _field(7, graph) + bytes(model.SerializeToString())


def packed(attribute: onnx.AttributeProto) -> bytes:
    """Encode the numbers of an attribute as one field instead of one field a number."""
    name = onnx.AttributeProto(name=attribute.name).SerializeToString()
    kind = onnx.AttributeProto(type=attribute.type).SerializeToString()
    if attribute.ints:
        return bytes(name + _field(8, b"".join(map(_varint, attribute.ints))) + kind)
    if attribute.floats:
        floats = struct.pack(f"<{len(attribute.floats)}f", *attribute.floats)
        return bytes(name + _field(7, floats) + kind)
    return plain(attribute)


def plain(attribute: onnx.AttributeProto) -> bytes:
    return bytes(attribute.SerializeToString())


def name_last(attribute: onnx.AttributeProto) -> bytes:
    """Encode the name of an attribute after its numbers."""
    rest = onnx.AttributeProto()
    rest.CopyFrom(attribute)
    rest.ClearField("name")
    return bytes(rest.SerializeToString()) + _field(1, attribute.name.encode())


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    data = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def bursts_when_unpacked(folder: Path) -> None:
    with gzip.open(folder / "serving" / TREES, "wb") as packed:
        for _ in range(UNPACKED_BYTES >> 20):
            packed.write(bytes(1 << 20))
    write_manifest(folder / "serving")


def too_much_memory(folder: Path) -> None:
    with (folder / "serving" / "smoke.json").open("w") as file:
        file.write('{"cases": [' + "{}," * EMPTY_OBJECTS + "{}]}")
    write_manifest(folder / "serving")


def pickle_of(marker: Path) -> bytes:
    """Return a pickle that makes a file when it is loaded."""

    class Hostile:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return Path.touch, (marker,)

    return pickle.dumps(Hostile())


def hostile_pickle(marker: Path) -> Alter:
    """Replace the model by a pickle, and say so in `MLmodel`."""

    def alter(folder: Path) -> None:
        (folder / MODEL).unlink()
        (folder / "model.pkl").write_bytes(pickle_of(marker))
        _relabel(
            folder,
            sklearn={"serialization_format": "cloudpickle", "pickled_model": "model.pkl"},
            python_function={"model_path": "model.pkl"},
        )

    return alter


def pickle_named_skops(marker: Path) -> Alter:
    def alter(folder: Path) -> None:
        (folder / MODEL).write_bytes(pickle_of(marker))

    return alter


def hostile_skops(marker: Path) -> Alter:
    """Make a skops file that calls a function of the operating system when it is loaded."""

    def alter(folder: Path) -> None:
        schema = {
            "__class__": "system",
            "__module__": "posix",
            "__loader__": "FunctionNode",
            "content": f"touch {marker}",
            "__id__": 1,
            "protocol": 2,
            "_skops_version": "0.16.0",
        }
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("schema.json", json.dumps(schema))
        (folder / MODEL).write_bytes(content.getvalue())
        _relabel(folder, sklearn={"skops_trusted_types": ["posix.system"]})

    return alter


def code_of_its_own(marker: Path) -> Alter:
    """Name a module inside the model as its loader."""

    def alter(folder: Path) -> None:
        (folder / "code" / "loader.py").write_text(f"open({str(marker)!r}, 'w')\n", "utf-8")
        _relabel(folder, python_function={"loader_module": "loader"})

    return alter


def _relabel(folder: Path, **flavors: dict[str, Any]) -> None:
    path = folder / "MLmodel"
    label = yaml.safe_load(path.read_text("utf-8"))
    for flavor, values in flavors.items():
        label["flavors"][flavor] |= values
    path.write_text(yaml.safe_dump(label), "utf-8")


def _weigh(folder: Path, weight: float) -> None:
    model, attributes = _nodes(folder)
    attributes["target_weights"].floats[-1] = weight
    _replace(folder, model.SerializeToString())


def _nodes(folder: Path) -> tuple[onnx.ModelProto, dict[str, onnx.AttributeProto]]:
    packed = (folder / "serving" / TREES).read_bytes()
    model = onnx.load_from_string(gzip.decompress(packed))
    (node,) = model.graph.node
    return model, {attribute.name: attribute for attribute in node.attribute}


def _replace(folder: Path, model: bytes) -> None:
    (folder / "serving" / TREES).write_bytes(gzip.compress(model))
    write_manifest(folder / "serving")
