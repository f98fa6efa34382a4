"""Download of a version over MLflow's HTTP interface: every byte is checked, or nothing is kept."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.server
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.models import ModelStore

from student_success.core.configuration.settings import Settings
from student_success.core.errors import ArtefactError, RegistryUnavailableError
from student_success.core.paths import ROOT
from student_success.model.predictor import Predictor
from student_success.registry import bento_store, mlflow_http, versions
from tests.faults.broken_registry import broken_registry

# BentoML warns about its own code when its store is first used.
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")

SEED_FOLDER = ROOT / "student_success" / "seed"
API = "/api/2.0/mlflow/"
FILES = "/api/2.0/mlflow-artifacts/artifacts/1/run-7/artifacts/model/"


class Registry:
    """The responses of an MLflow server about one version; tests tamper with them."""

    def __init__(self) -> None:
        self.requests = 0
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
        self.model: bytes | None = json.dumps(
            {"registered_model": {"aliases": [{"alias": "meilleur", "version": 3}]}}
        ).encode()
        self.pause_seconds = 0.0

    def responses(self) -> dict[str, bytes]:
        listed = json.dumps(self.listed).encode()
        tags = {
            "fingerprint": self.fingerprint,
            "checksums": self.checksums or hashlib.sha256(listed).hexdigest(),
        }
        bodies: dict[str, Any] = {
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
            {API + name: json.dumps(body).encode() for name, body in bodies.items()}
            | ({} if self.model is None else {API + "registered-models/get": self.model})
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
            mlflow.requests += 1
            body = mlflow.responses().get(self.path.partition("?")[0])
            self.send_response(404 if body is None else 200)
            if self.path.endswith(".gz"):
                # Some artefact stores send this header for a file that is compressed itself.
                self.send_header("Content-Encoding", "gzip")
            body = body or b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}'
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if not mlflow.pause_seconds:
                self.wfile.write(body)
                return
            for byte in body:
                time.sleep(mlflow.pause_seconds)
                self.wfile.write(bytes([byte]))

        def log_message(self, *_: object) -> None:
            return None

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                return  # The client has closed the connection.

    (tmp_path / "models").mkdir()
    BentoMLContainer.model_store.set(ModelStore(tmp_path / "models"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Settings(
            state_dir=tmp_path, mlflow_tracking_uri=f"http://127.0.0.1:{server.server_port}/"
        )
        server.shutdown()
    BentoMLContainer.model_store.reset()


def fetch(settings: Settings, fingerprint: str) -> None:
    versions.fetch(settings, "3", fingerprint=fingerprint, download=mlflow_http.downloaded)


def stored(settings: Settings) -> Path | None:
    return bento_store.stored(settings, "3")


def test_ensure_stored_downloads_a_missing_version_once(
    settings: Settings, mlflow: Registry
) -> None:
    asyncio.run(versions.ensure_stored(settings, "3", fingerprint=mlflow.fingerprint))
    folder = stored(settings)
    assert folder is not None
    predictor = Predictor.load(folder, version="3")
    assert predictor.fingerprint == mlflow.fingerprint
    predictor.check_smoke()
    assert (folder.parent / "MLmodel").read_bytes() == mlflow.files["MLmodel"]
    requests = mlflow.requests
    asyncio.run(versions.ensure_stored(settings, "3", fingerprint=mlflow.fingerprint))
    assert mlflow.requests == requests, "the version is stored already"


def test_ensure_stored_replaces_a_damaged_copy(settings: Settings, mlflow: Registry) -> None:
    fetch(settings, mlflow.fingerprint)
    folder = stored(settings)
    assert folder is not None
    (folder / "trees-G1.onnx.gz").write_bytes(b"damaged")
    asyncio.run(versions.ensure_stored(settings, "3", fingerprint=mlflow.fingerprint))
    assert (folder / "trees-G1.onnx.gz").read_bytes() == mlflow.files["serving/trees-G1.onnx.gz"]


def test_fetch_keeps_one_whole_copy_when_several_threads_fetch_at_once(
    settings: Settings, mlflow: Registry
) -> None:
    errors: list[Exception] = []

    def run() -> None:
        try:
            fetch(settings, mlflow.fingerprint)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert versions.is_stored(settings, "3", fingerprint=mlflow.fingerprint)


def test_fetch_understands_an_absolute_artefact_path(settings: Settings, mlflow: Registry) -> None:
    mlflow.source = "mlflow-artifacts:/1/run-7/artifacts/model"
    fetch(settings, mlflow.fingerprint)
    assert stored(settings) is not None


def alter_file(mlflow: Registry) -> None:
    mlflow.files["serving/trees-G1.onnx.gz"] += b"x"


def alter_fingerprint(mlflow: Registry) -> None:
    mlflow.fingerprint = "0" * 64


def alter_checksum_of_list(mlflow: Registry) -> None:
    mlflow.checksums = "0" * 64


def list_parent_path(mlflow: Registry) -> None:
    mlflow.listed["../../outside"] = "0" * 64


def list_absolute_path(mlflow: Registry) -> None:
    mlflow.listed["/outside"] = "0" * 64


def list_many_files(mlflow: Registry) -> None:
    mlflow.listed |= {str(number): "0" * 64 for number in range(mlflow_http.MAX_FILES)}


@pytest.mark.parametrize(
    "tamper",
    [
        alter_file,
        alter_fingerprint,
        alter_checksum_of_list,
        list_parent_path,
        list_absolute_path,
        list_many_files,
    ],
)
def test_fetch_refuses_and_keeps_nothing_when_the_version_is_altered(
    settings: Settings, mlflow: Registry, tamper: Any
) -> None:
    deployed = mlflow.fingerprint
    tamper(mlflow)
    with pytest.raises(ArtefactError):
        fetch(settings, deployed)
    assert stored(settings) is None


def remove_file(mlflow: Registry) -> None:
    del mlflow.files["MLmodel"]


def move_to_other_store(mlflow: Registry) -> None:
    mlflow.root = "s3://bucket/1/run-7/artifacts"


def send_malformed_responses(mlflow: Registry) -> None:
    mlflow.listed = {"MLmodel": 3, "serving/manifest.json": []}  # type: ignore[dict-item]
    mlflow.source = "\0"


@pytest.mark.parametrize("tamper", [remove_file, move_to_other_store, send_malformed_responses])
def test_fetch_reports_the_registry_unavailable_when_it_does_not_send_the_version(
    settings: Settings, mlflow: Registry, tamper: Any
) -> None:
    deployed = mlflow.fingerprint
    tamper(mlflow)
    with pytest.raises(RegistryUnavailableError):
        fetch(settings, deployed)
    assert stored(settings) is None


def test_fetch_stops_when_the_responses_are_too_large(
    settings: Settings, mlflow: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_http, "MAX_BYTES", 100_000)
    with pytest.raises(RegistryUnavailableError):
        fetch(settings, mlflow.fingerprint)
    assert stored(settings) is None


def test_fetch_reports_the_registry_unavailable_when_nothing_listens(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, mlflow_tracking_uri="http://127.0.0.1:1")
    with pytest.raises(RegistryUnavailableError):
        fetch(settings, "0" * 64)
    assert mlflow_http.peek(settings) == (False, None)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (b'{"registered_model": {"aliases": [{"alias": "meilleur", "version": 3}]}}', (True, "3")),
        (b'{"registered_model": {"aliases": [{"alias": "other", "version": 3}]}}', (True, None)),
        (b'{"registered_model": {}}', (True, None)),
        (None, (True, None)),
        (b'{"registered_model": []}', (False, None)),
        (b"<html>", (False, None)),
        (b"[" + b" " * mlflow_http.PEEK_BYTES + b"]", (False, None)),
    ],
)
def test_peek_returns_the_alias_or_that_the_registry_does_not_answer(
    settings: Settings, mlflow: Registry, model: bytes | None, expected: tuple[bool, str | None]
) -> None:
    mlflow.model = model
    assert mlflow_http.peek(settings) == expected


def test_peek_reads_the_file_of_a_folder_with_an_odd_name(tmp_path: Path) -> None:
    folder = tmp_path / "a#b c;é&="
    folder.mkdir()
    settings = Settings(state_dir=folder, mlflow_tracking_uri=None)
    assert mlflow_http.peek(settings) == (True, None)
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute("CREATE TABLE registered_model_aliases (name, alias, version)")
        row = (settings.model_name, settings.model_alias, 3)
        database.execute("INSERT INTO registered_model_aliases VALUES (?, ?, ?)", row)
    assert mlflow_http.peek(settings) == (True, "3")
    assert [*tmp_path.iterdir()] == [folder]


def test_peek_ends_in_time_when_the_server_sends_byte_by_byte(
    settings: Settings, mlflow: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_http, "PEEK_SECONDS", 0.3)
    mlflow.pause_seconds = 0.1
    started = time.monotonic()
    assert mlflow_http.peek(settings) == (False, None)
    assert time.monotonic() - started < 5


def test_peek_ends_in_time_when_server_sends_a_byte_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each byte arrives within the timeout of a read: only a limit on the whole request ends it.
    monkeypatch.setattr(mlflow_http, "PEEK_SECONDS", 1.5)
    with broken_registry("byte a second") as registry:
        settings = Settings(state_dir=tmp_path, mlflow_tracking_uri=registry.url)
        started = time.monotonic()
        assert mlflow_http.peek(settings) == (False, None)
        assert time.monotonic() - started < 10
