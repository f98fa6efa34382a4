"""A deployed version, taken straight from MLflow's server by a replica that follows.

MLflow's own library takes seconds to import, and a promotion is to be followed within two. The
server's HTTP interface gives the same files; each is checked against what was recorded at the
training before anything is kept. Where this does not work, as where the artefacts are not behind
the server, `registry` and its child process do it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import bentoml
import httpx
from bentoml.exceptions import BentoMLException

from student_success import registry
from student_success.errors import ArtefactError, RegistryUnavailableError
from student_success.predictor import verify
from student_success.settings import Settings

MAX_BYTES = 1 << 30
MAX_FILES = 1000
WAIT_SECONDS = 5.0
_IN_STORE = "mlflow_model"


def take(settings: Settings, version: str, *, fingerprint: str) -> None:
    """Bring a version into the Bento store of this machine.

    Parameters
    ----------
    fingerprint
        SHA-256 that the manifest of what is served must have.

    Raises
    ------
    RegistryUnavailableError
        If MLflow's server does not give it.
    ArtefactError
        If what it gives is not what was recorded.
    """
    if _is_stored(settings, version, fingerprint):
        return  # Another worker of this machine was quicker.
    with _server(settings) as server:
        found = server.version(version)
        tags = {item["key"]: item["value"] for item in found.get("tags", [])}
        if tags.get("fingerprint") != fingerprint:
            raise ArtefactError("The registry's version is not the one that was deployed.")
        where = server.folder_of(version)
        listed = server.read(where, registry.CHECKSUMS)
        if hashlib.sha256(listed).hexdigest() != tags.get("checksums"):
            raise ArtefactError("The list of checksums is not the one that was recorded.")
        with _new_in_store(settings, version, found, fingerprint) as folder:
            (folder / registry.CHECKSUMS).write_bytes(listed)
            for name, digest in _recorded(listed):
                content = server.read(where, name)
                if hashlib.sha256(content).hexdigest() != digest:
                    raise ArtefactError("A file of the model is not the one that was recorded.")
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
            manifest = folder / registry.SERVING / "manifest.json"
            if hashlib.sha256(manifest.read_bytes()).hexdigest() != fingerprint:
                raise ArtefactError("The manifest is not the one that was deployed.")


class _Server:
    """MLflow's HTTP interface, for a bounded time and a bounded number of bytes."""

    def __init__(self, client: httpx.Client, settings: Settings) -> None:
        self._client = client
        self._base = settings.tracking_uri.rstrip("/")
        self._name = settings.model_name
        self._end = time.monotonic() + settings.registry_timeout_seconds
        self._left = MAX_BYTES

    def version(self, version: str) -> dict[str, Any]:
        found = self._ask("model-versions/get", name=self._name, version=version)
        return dict(found["model_version"])

    def folder_of(self, version: str) -> str:
        """Return the path under which the server gives a version's files."""
        said = self._ask("model-versions/get-download-uri", name=self._name, version=version)
        where = urlsplit(said["artifact_uri"])
        if where.scheme == "runs":
            run_id, _, below = where.path.strip("/").partition("/")
            run = self._ask("runs/get", run_id=run_id)["run"]
            where = urlsplit(f"{run['info']['artifact_uri']}/{below}")
        if where.scheme != "mlflow-artifacts":
            raise RegistryUnavailableError("The artefacts are not behind MLflow's server.")
        return str(where.path).strip("/")

    def _ask(self, what: str, **query: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._get(f"api/2.0/mlflow/{what}?{urlencode(query)}"))
        return found

    def read(self, folder: str, name: str) -> bytes:
        path = quote(f"{folder}/{name}")
        return self._get(f"api/2.0/mlflow-artifacts/artifacts/{path}")

    def _get(self, path: str) -> bytes:
        parts = []
        with self._client.stream("GET", f"{self._base}/{path}") as answer:
            answer.raise_for_status()
            # As they are: what is stored packed must not arrive unpacked.
            for part in answer.iter_raw():
                self._left -= len(part)
                if self._left < 0 or time.monotonic() > self._end:
                    raise RegistryUnavailableError("The registry sends too much or too slowly.")
                parts.append(part)
        return b"".join(parts)


@contextlib.contextmanager
def _server(settings: Settings) -> Iterator[_Server]:
    try:
        with httpx.Client(
            timeout=WAIT_SECONDS, follow_redirects=True, headers={"Accept-Encoding": "identity"}
        ) as client:
            yield _Server(client, settings)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise RegistryUnavailableError("The model registry does not answer.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryUnavailableError("The registry's answer makes no sense.") from error


def _is_stored(settings: Settings, version: str, fingerprint: str) -> bool:
    folder = registry.stored(settings, version)
    try:
        return folder is not None and verify(folder) == fingerprint
    except ArtefactError:
        return False


@contextlib.contextmanager
def _new_in_store(
    settings: Settings, version: str, found: dict[str, Any], fingerprint: str
) -> Iterator[Path]:
    """Make a model in the Bento store, as its own import would; kept only if the block succeeds."""
    name = registry.tag(settings, version)
    if registry.stored(settings, version) is not None:
        # What is there is damaged, or was never this version.
        bentoml.models.delete(name)
    try:
        with bentoml.models.create(
            name,
            module="bentoml.mlflow",
            signatures={"predict": {"batchable": False}},
            labels={"mlflow_version": version},
            metadata={
                "mlflow_name": settings.model_name,
                "mlflow_version": int(version),
                "run_id": str(found.get("run_id", "")),
                "fingerprint": fingerprint,
            },
        ) as model:
            folder = Path(model.path_of(_IN_STORE))
            folder.mkdir()
            yield folder
    except BentoMLException as error:
        if not _is_stored(settings, version, fingerprint):
            raise ArtefactError("The Bento store did not keep the model.") from error


def _recorded(listed: bytes) -> list[tuple[str, str]]:
    recorded: dict[str, str] = json.loads(listed)
    if len(recorded) > MAX_FILES:
        raise ArtefactError("The model has too many files.")
    for name in recorded:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ArtefactError("A file of the model would land elsewhere.")
    return list(recorded.items())
