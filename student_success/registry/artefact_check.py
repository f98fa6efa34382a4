"""Try a version out before anyone else sees it, in a process that may hang, burst or crash.

Nothing of the registered scikit-learn model is loaded here or anywhere in the service: only its
label is read, so that whoever does load the promoted version gets nothing worse than a model.
"""

from __future__ import annotations

import gzip
import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from student_success.core.errors import ArtefactError
from student_success.domain.students import FEATURES, HORIZONS, StudentFeatures
from student_success.model import onnx_reader
from student_success.model.artefact import trees_file
from student_success.model.prediction import Prediction
from student_success.model.predictor import Predictor

MODEL_FILE = "model.skops"
SERVING = "serving"
FILES = {
    *("MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "checksums.json"),
    *("input_example.json", "serving_input_example.json", MODEL_FILE, "registered_model_meta"),
}
FOLDERS = {SERVING, "code"}

KINDS = {
    *("DictNode", "FunctionNode", "JsonNode", "ListNode", "LossNode", "NdArrayNode"),
    *("ObjectNode", "RandomGeneratorNode", "SliceNode", "SparseMatrixNode", "TreeNode"),
    *("TupleNode", "TypeNode"),
}
TYPES = {
    *("builtins.dict", "builtins.list", "builtins.slice", "builtins.str", "builtins.tuple"),
    *("grade_models.GradeForest", "grade_models.GradeRegressor"),
    *("numpy.float64", "numpy.log1p", "numpy.ndarray", "numpy.uint64"),
    *("numpy.random._generator.Generator", "scipy.sparse._csr.csr_matrix"),
    *("sklearn._loss._loss.CyAbsoluteError", "sklearn._loss.loss.AbsoluteError"),
    *("sklearn._loss.link.IdentityLink", "sklearn._loss.link.Interval"),
    "sklearn.compose._column_transformer.ColumnTransformer",
    "sklearn.ensemble._forest.ExtraTreesRegressor",
    "sklearn.ensemble._forest.RandomForestRegressor",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingRegressor",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.linear_model._huber.HuberRegressor",
    "sklearn.pipeline.Pipeline",
    "sklearn.preprocessing._data.StandardScaler",
    "sklearn.preprocessing._encoders.OneHotEncoder",
    "sklearn.preprocessing._function_transformer.FunctionTransformer",
    *("sklearn.tree._classes.DecisionTreeRegressor", "sklearn.tree._classes.ExtraTreeRegressor"),
    "sklearn.tree._tree.Tree",
}
"""Every part of the estimators that this program's families fit; a test holds it to them."""
SCHEMA_BYTES = 64 << 20

OPERATOR = ("ai.onnx.ml", "TreeEnsembleRegressor")
UNPACKED_BYTES = 256 << 20
"""Most that one set of trees may take; ours take a hundredth of that."""

PROBES = 512


def try_out(folder: Path, *, version: str, alarm_recall: float) -> str:
    """Look at a downloaded version from every side and let it answer; return its fingerprint.

    Parameters
    ----------
    folder
        The MLflow model, with the part that is served in it.

    Raises
    ------
    ArtefactError
        If anything about it is not as this program's training makes it.
    """
    serving = folder / SERVING
    try:
        _check_label(folder)
        for horizon in HORIZONS:
            _check_trees(serving / trees_file(horizon))
        predictor = Predictor.load(serving, version=version, alarm_recall=alarm_recall)
        predictor.check_smoke()
        _probe(predictor)
    except ArtefactError:
        raise
    except MemoryError as error:
        raise ArtefactError("The model artefact needs more memory than it may take.") from error
    except Exception as error:
        # The artefact chose what to be made of, and so what is raised by it.
        raise ArtefactError("The model artefact cannot be used.") from error
    return predictor.fingerprint


def _check_label(folder: Path) -> None:
    """Refuse what would run code of its own when it is loaded: a pickle, or an unknown type."""
    import yaml  # type: ignore[import-untyped] # it comes without types

    strange = {path.name for path in folder.iterdir()} - FILES - FOLDERS
    if strange:
        raise ArtefactError("The model has a file that no model of this program has.")
    label: dict[str, Any] = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
    flavors = label["flavors"]
    if (
        set(flavors) != {"python_function", "sklearn"}
        or flavors["sklearn"]["serialization_format"] != "skops"
        or flavors["sklearn"]["pickled_model"] != MODEL_FILE
        or flavors["python_function"]["loader_module"] != "mlflow.sklearn"
        or flavors["python_function"]["model_path"] != MODEL_FILE
    ):
        raise ArtefactError("The model is not kept in the one format that runs no code: skops.")
    if not set(flavors["sklearn"].get("skops_trusted_types") or ()) <= TYPES:
        raise ArtefactError("The model asks for types to be trusted that are not.")
    strange = parts(folder / MODEL_FILE) - KINDS - TYPES
    if strange:
        raise ArtefactError("The model holds parts that no model of this program has.")


def parts(path: Path) -> set[str]:
    """Return every kind of node and every type that a skops file names; none of it is loaded."""
    with zipfile.ZipFile(path) as archive, archive.open("schema.json") as packed:
        raw = packed.read(SCHEMA_BYTES + 1)
    if len(raw) > SCHEMA_BYTES:
        raise ArtefactError("The model is far too large.")
    found: set[str] = set()
    left: list[Any] = [json.loads(raw)]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            if "__loader__" in node:
                found |= {node["__loader__"], f"{node['__module__']}.{node['__class__']}"}
            left += node.values()
        elif isinstance(node, list):
            left += node
    return found


def _check_trees(path: Path) -> None:
    """Refuse anything but finite trees: other operators may loop, or read files."""
    try:
        with gzip.open(path) as packed:
            model = packed.read(UNPACKED_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ArtefactError(f"The model file {path.name} cannot be unpacked.") from error
    if len(model) > UNPACKED_BYTES:
        raise ArtefactError(f"The model file {path.name} is far too large.")
    if onnx_reader.operators(model) != [OPERATOR]:
        raise ArtefactError(f"The model file {path.name} holds something else than trees.")
    nodes = onnx_reader.read(model)
    if not (np.isfinite(nodes.weight).all() and np.isfinite(nodes.cut).all()):
        raise ArtefactError(f"The model file {path.name} holds numbers that are none.")
    # Our compiler numbers children after their parent; then no way leads round in a circle.
    branch = (nodes.low != 0) | (nodes.high != 0)
    if (np.minimum(nodes.low, nodes.high)[branch] <= nodes.node[branch]).any():
        raise ArtefactError(f"The model file {path.name} holds trees that are none.")


def _probe(predictor: Predictor) -> None:
    """Ask about pupils at the bounds of what may be asked, one by one and all together."""
    students = list(_extremes())
    together = predictor.predict_many(students)
    for student, said in zip(students, together, strict=True):
        if not _sane(said) or predictor.predict(student) != said:
            raise ArtefactError("The model gives an answer that is none.")


def _extremes() -> Iterator[StudentFeatures]:
    # Chosen by chance, the same each time.
    random = Random(0)  # noqa: S311 - the same pupils each time
    for number in range(PROBES):
        values = {
            feature.name: random.choice(feature.categories or (feature.low, feature.high))
            for feature in FEATURES
        }
        known = number % len(HORIZONS)
        values |= dict.fromkeys(("G1", "G2")[known:])
        yield StudentFeatures.model_validate(values)


def _sane(said: Prediction) -> bool:
    return (
        0 <= said.predicted_G3 <= 20
        and 0 <= said.pass_probability <= 1
        and 0 <= said.low <= said.high <= 20
    )
