"""Ways to spoil a registered model, one function each; it is given the model's folder."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import yaml
from onnx import TensorProto, helper

from student_success.domain.students import Horizon
from student_success.model.artefact import trees_file
from tests.faults.registered_versions import Alter, edit, write_manifest

TREES = trees_file(Horizon.G1_G2)
MODEL = "model.skops"
FAT = 25_000_000
"""Empty objects: 75 megabytes in a file, well over a gigabyte in memory."""
BOMB = 300 << 20


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


def truncated_and_sealed(folder: Path) -> None:
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
    edit(folder / "serving" / "serving.json", median_share=float("nan"), base=float("nan"))
    write_manifest(folder / "serving")


def nan_leaf(folder: Path) -> None:
    """Answer NaN where no recorded pupil goes."""
    _weigh(folder, float("nan"))


def wrong_answers(folder: Path) -> None:
    edit(folder / "serving" / "serving.json", median_share=0.95)
    write_manifest(folder / "serving")


def no_evaluation(folder: Path, *, champion: str) -> None:
    path = folder / "serving" / "evaluation.json"
    content = json.loads(path.read_text("utf-8"))
    del content["mae"]
    content["champion"] = champion
    path.write_text(json.dumps(content), "utf-8")
    write_manifest(folder / "serving")


def runs_for_ever(folder: Path) -> None:
    """Put a loop without an end in place of the trees."""
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
    """Lead the root of the first tree back to itself."""
    model, attributes = _nodes(folder)
    attributes["nodes_truenodeids"].ints[0] = 0
    _replace(folder, model.SerializeToString())


def bursts_when_unpacked(folder: Path) -> None:
    with gzip.open(folder / "serving" / TREES, "wb") as packed:
        for _ in range(BOMB >> 20):
            packed.write(bytes(1 << 20))
    write_manifest(folder / "serving")


def too_much_memory(folder: Path) -> None:
    with (folder / "serving" / "smoke.json").open("w") as file:
        file.write('{"cases": [' + "{}," * FAT + "{}]}")
    write_manifest(folder / "serving")


def pickle_of(marker: Path) -> bytes:
    """Return a pickle that makes a file when it is loaded."""

    class Hostile:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return Path.touch, (marker,)

    return pickle.dumps(Hostile())


def hostile_pickle(marker: Path) -> Alter:
    """Say in the label that the model is a pickle, and let it be one."""

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
    """Call a function of the operating system when the model is loaded as skops."""

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
    """Name a module that travels with the model as the one to load it."""

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
