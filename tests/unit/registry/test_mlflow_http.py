"""A deployed version from MLflow's server without MLflow: every byte checked, or nothing kept."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.models import ModelStore

from student_success.core.errors import ArtefactError, RegistryUnavailableError
from student_success.core.settings import ROOT, Settings
from student_success.model.predictor import Predictor
from student_success.registry import bento_store, mlflow_http

# BentoML's own, when its parts are first asked for.
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")

SEED_FOLDER = ROOT / "student_success" / "seed"
API = "/api/2.0/mlflow/"
FILES = "/api/2.0/mlflow-artifacts/artifacts/1/run-7/artifacts/model/"


class Registry:
    """What a server of MLflow's says of one version, to be tampered with."""

    def __init__(self) -> None:
        self.asked = 0
        files = {
            f"serving/{path.relative_to(SEED_FOLDER).as_posix()}": path.read_bytes()
            for path in SEED_FOLDER.rglob("*")
            if path.is_file()
        } | {"MLmodel": b"flavors: {}\n"}
        self.files = files
        self.listed = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        self.fingerprint = self.listed["serving/manifest.json"]
        self.source = "runs:/run-7/model"
        self.root = "mlflow-artifacts:/1/run-7/artifacts"
        self.checksums: str | None = None

    def answers(self) -> dict[str, bytes]:
        listed = json.dumps(self.listed).encode()
        tags = {
            "fingerprint": self.fingerprint,
            "checksums": self.checksums or hashlib.sha256(listed).hexdigest(),
        }
        said: dict[str, Any] = {
            "model-versions/get": {
                "model_version": {
                    "run_id": "run-7",
                    "tags": [{"key": key, "value": value} for key, value in tags.items()],
                }
            },
            "model-versions/get-download-uri": {"artifact_uri": self.source},
            "runs/get": {"run": {"info": {"artifact_uri": self.root}}},
        }
        return (
            {API + name: json.dumps(body).encode() for name, body in said.items()}
            | {FILES + name: data for name, data in self.files.items()}
            | {FILES + "checksums.json": listed}
        )


@pytest.fixture
def mlflow() -> Registry:
    return Registry()


@pytest.fixture
def settings(mlflow: Registry, tmp_path: Path) -> Iterator[Settings]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            mlflow.asked += 1
            body = mlflow.answers().get(self.path.partition("?")[0])
            self.send_response(404 if body is None else 200)
            if self.path.endswith(".gz"):
                # As a store may say of a file that is packed.
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            return None

    (tmp_path / "models").mkdir()
    BentoMLContainer.model_store.set(ModelStore(tmp_path / "models"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Settings(
            state_dir=tmp_path, mlflow_tracking_uri=f"http://127.0.0.1:{server.server_port}/"
        )
        server.shutdown()
    BentoMLContainer.model_store.reset()


def kept(settings: Settings) -> Path | None:
    return bento_store.stored(settings, "3")


def test_version_is_in_the_store_and_answers(settings: Settings, mlflow: Registry) -> None:
    mlflow_http.take(settings, "3", fingerprint=mlflow.fingerprint)
    folder = kept(settings)
    assert folder is not None
    predictor = Predictor.load(folder, version="3")
    assert predictor.fingerprint == mlflow.fingerprint
    predictor.check_smoke()
    assert (folder.parent / "MLmodel").read_bytes() == mlflow.files["MLmodel"]
    asked = mlflow.asked
    mlflow_http.take(settings, "3", fingerprint=mlflow.fingerprint)
    assert mlflow.asked == asked, "it is there already"


def test_damaged_copy_is_replaced(settings: Settings, mlflow: Registry) -> None:
    mlflow_http.take(settings, "3", fingerprint=mlflow.fingerprint)
    folder = kept(settings)
    assert folder is not None
    (folder / "trees-G1.onnx.gz").write_bytes(b"damaged")
    mlflow_http.take(settings, "3", fingerprint=mlflow.fingerprint)
    assert (folder / "trees-G1.onnx.gz").read_bytes() == mlflow.files["serving/trees-G1.onnx.gz"]


def test_absolute_place_of_the_artefacts_is_understood(
    settings: Settings, mlflow: Registry
) -> None:
    mlflow.source = "mlflow-artifacts:/1/run-7/artifacts/model"
    mlflow_http.take(settings, "3", fingerprint=mlflow.fingerprint)
    assert kept(settings) is not None


def altered(mlflow: Registry) -> None:
    mlflow.files["serving/trees-G1.onnx.gz"] += b"x"


def other_version(mlflow: Registry) -> None:
    mlflow.fingerprint = "0" * 64


def other_list(mlflow: Registry) -> None:
    mlflow.checksums = "0" * 64


def climbing(mlflow: Registry) -> None:
    mlflow.listed["../../outside"] = "0" * 64


def absolute(mlflow: Registry) -> None:
    mlflow.listed["/outside"] = "0" * 64


def many(mlflow: Registry) -> None:
    mlflow.listed |= {str(number): "0" * 64 for number in range(mlflow_http.MAX_FILES)}


@pytest.mark.parametrize("tamper", [altered, other_version, other_list, climbing, absolute, many])
def test_altered_version_is_refused_and_not_kept(
    settings: Settings, mlflow: Registry, tamper: Any
) -> None:
    deployed = mlflow.fingerprint
    tamper(mlflow)
    with pytest.raises(ArtefactError):
        mlflow_http.take(settings, "3", fingerprint=deployed)
    assert kept(settings) is None


def missing(mlflow: Registry) -> None:
    del mlflow.files["MLmodel"]


def elsewhere(mlflow: Registry) -> None:
    mlflow.root = "s3://bucket/1/run-7/artifacts"


def nonsense(mlflow: Registry) -> None:
    mlflow.listed = {"MLmodel": 3, "serving/manifest.json": []}  # type: ignore[dict-item]
    mlflow.source = "\0"


@pytest.mark.parametrize("tamper", [missing, elsewhere, nonsense])
def test_version_that_is_not_given_is_left_to_the_other_way(
    settings: Settings, mlflow: Registry, tamper: Any
) -> None:
    deployed = mlflow.fingerprint
    tamper(mlflow)
    with pytest.raises(RegistryUnavailableError):
        mlflow_http.take(settings, "3", fingerprint=deployed)
    assert kept(settings) is None


def test_endless_answer_is_given_up(
    settings: Settings, mlflow: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_http, "MAX_BYTES", 100_000)
    with pytest.raises(RegistryUnavailableError):
        mlflow_http.take(settings, "3", fingerprint=mlflow.fingerprint)
    assert kept(settings) is None


def test_server_that_is_away_is_said_to_be_unavailable(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, mlflow_tracking_uri="http://127.0.0.1:1")
    with pytest.raises(RegistryUnavailableError):
        mlflow_http.take(settings, "3", fingerprint="0" * 64)
