"""Check a downloaded model version before it is promoted, in a child process that may crash.

The registered scikit-learn model is never loaded by the service. Its description is checked all the
same, so that people who load a promoted version elsewhere do not run foreign code.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from student_success.core.errors import ArtefactError
from student_success.core.memory import is_lack_of_memory
from student_success.domain.students import FEATURES, HORIZONS, PERIODS, SCALE, StudentFeatures
from student_success.model.artefact import trees_file
from student_success.model.onnx_reader import read_trees
from student_success.model.prediction import Prediction
from student_success.model.predictor import Predictor
from student_success.registry.checksums import SERVING

MODEL_FILE = "model.skops"
FILES = {
    *("MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "checksums.json"),
    *("input_example.json", "serving_input_example.json", MODEL_FILE, "registered_model_meta"),
}
FOLDERS = {SERVING, "code"}

NODE_KINDS = {
    *("DictNode", "JsonNode", "ListNode", "LossNode", "NdArrayNode", "ObjectNode"),
    *("RandomGeneratorNode", "TupleNode", "TypeNode"),
}
TYPES = {
    *("builtins.dict", "builtins.list", "builtins.str", "builtins.tuple"),
    "grade_models.GradeModel",
    *("numpy.ndarray", "numpy.uint64", "numpy.random._generator.Generator"),
    *("sklearn._loss._loss.CyAbsoluteError", "sklearn._loss.loss.AbsoluteError"),
    *("sklearn._loss._loss.CyHalfBinomialLoss", "sklearn._loss.loss.HalfBinomialLoss"),
    *("sklearn._loss._loss.CyHalfSquaredError", "sklearn._loss.loss.HalfSquaredError"),
    *("sklearn._loss.link.IdentityLink", "sklearn._loss.link.Interval"),
    "sklearn._loss.link.LogitLink",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingClassifier",
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingRegressor",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.preprocessing._label.LabelEncoder",
}
"""Every part of the estimators that this program trains; a test compares it with all families."""
OLDER_TYPES = {
    *("grade_models.GradeForest", "grade_models.GradeRegressor"),
    *("builtins.slice", "numpy.float64", "numpy.log1p"),
    "scipy.sparse._csr.csr_matrix",
    "sklearn.compose._column_transformer.ColumnTransformer",
    "sklearn.ensemble._forest.ExtraTreesRegressor",
    "sklearn.ensemble._forest.RandomForestRegressor",
    "sklearn.linear_model._huber.HuberRegressor",
    "sklearn.pipeline.Pipeline",
    "sklearn.preprocessing._data.StandardScaler",
    "sklearn.preprocessing._encoders.OneHotEncoder",
    "sklearn.preprocessing._function_transformer.FunctionTransformer",
    *("sklearn.tree._classes.DecisionTreeRegressor", "sklearn.tree._classes.ExtraTreeRegressor"),
    "sklearn.tree._tree.Tree",
}
"""Parts of the estimators that earlier releases trained; their versions go on being served."""
OLDER_NODE_KINDS = {"FunctionNode", "SliceNode", "SparseMatrixNode", "TreeNode"}
SCHEMA_BYTES = 64 << 20

PUPILS = 512
"""How many pupils at the bounds of the features are predicted."""


def check_artefact(folder: Path, *, version: str, alarm_recall: float) -> str:
    """Check every part of a downloaded version, predict with it, and return its fingerprint.

    Parameters
    ----------
    folder
        The MLflow model, which contains the served artefact.

    Raises
    ------
    ArtefactError
        If any part of it is not as this program's training makes it.
    """
    serving = folder / SERVING
    try:
        _check_model(folder)
        for horizon in HORIZONS:
            read_trees(serving / trees_file(horizon))
        predictor = Predictor.load(serving, version=version, alarm_recall=alarm_recall)
        predictor.check_smoke()
        _check_predictions(predictor)
    except ArtefactError:
        raise
    except Exception as error:
        if is_lack_of_memory(error):
            raise ArtefactError("The model artefact needs more memory than it may use.") from error
        # A hostile artefact can cause any exception type.
        raise ArtefactError("The model artefact cannot be used.") from error
    return predictor.fingerprint


def _check_model(folder: Path) -> None:
    """Refuse a model that would run foreign code when it is loaded: pickles and unknown types."""
    import yaml  # type: ignore[import-untyped] # it has no type hints

    if {path.name for path in folder.iterdir()} - FILES - FOLDERS:
        raise ArtefactError("The model contains a file that this program does not write.")
    description: dict[str, Any] = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
    flavors = description["flavors"]
    if (
        set(flavors) != {"python_function", "sklearn"}
        or flavors["sklearn"]["serialization_format"] != "skops"
        or flavors["sklearn"]["pickled_model"] != MODEL_FILE
        or flavors["python_function"]["loader_module"] != "mlflow.sklearn"
        or flavors["python_function"]["model_path"] != MODEL_FILE
    ):
        raise ArtefactError("The model is not in skops, the only format that runs no code.")
    if not set(flavors["sklearn"].get("skops_trusted_types") or ()) <= TYPES | OLDER_TYPES:
        raise ArtefactError("The model declares trusted types that this program does not use.")
    if parts(folder / MODEL_FILE) - NODE_KINDS - OLDER_NODE_KINDS - TYPES - OLDER_TYPES:
        raise ArtefactError("The model contains types that this program does not use.")


def parts(path: Path) -> set[str]:
    """Return every node kind and type that a skops file names, without loading any of them."""
    with zipfile.ZipFile(path) as archive, archive.open("schema.json") as packed:
        raw = packed.read(SCHEMA_BYTES + 1)
    if len(raw) > SCHEMA_BYTES:
        raise ArtefactError("The model is too large.")
    names: set[str] = set()
    remaining: list[Any] = [json.loads(raw)]
    while remaining:
        node = remaining.pop()
        if isinstance(node, dict):
            if "__loader__" in node:
                names |= {node["__loader__"], f"{node['__module__']}.{node['__class__']}"}
            remaining += node.values()
        elif isinstance(node, list):
            remaining += node
    return names


def _check_predictions(predictor: Predictor) -> None:
    """Predict for pupils at the bounds of the features, one by one and all together."""
    students = list(_extreme_students())
    batch = predictor.predict_many(students)
    for student, prediction in zip(students, batch, strict=True):
        if not _is_in_range(prediction) or predictor.predict(student) != prediction:
            raise ArtefactError("The model returns an impossible prediction.")


def _extreme_students() -> Iterator[StudentFeatures]:
    random = Random(0)  # noqa: S311 - the same pupils each time
    for number in range(PUPILS):
        values = {
            feature.name: random.choice(feature.categories or (feature.low, feature.high))
            for feature in FEATURES
        }
        known = number % len(HORIZONS)
        values |= dict.fromkeys(PERIODS[known:])
        yield StudentFeatures.model_validate(values)


def _is_in_range(prediction: Prediction) -> bool:
    return (
        SCALE.minimum <= prediction.grade <= SCALE.maximum
        and 0 <= prediction.pass_probability <= 1
        and all(map(SCALE.has, (prediction.low, prediction.high)))
        and prediction.low <= prediction.high
    )
