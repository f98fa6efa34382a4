"""A deployed version, taken straight from MLflow's server by a replica that follows.

MLflow's own library takes seconds to import, and a promotion is to be followed within two. The
server's HTTP interface gives the same files; each is checked against what was recorded at the
training before anything is kept. Where this does not work, as where the artefacts are not behind
the server, `registry` and its child process do it.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import bentoml
import httpx
from bentoml.exceptions import BentoMLException

from student_success.core.errors import ArtefactError, RegistryUnavailableError
from student_success.core.settings import Settings
from student_success.model.predictor import verify
from student_success.registry import bento_store, checksums
from student_success.registry.checksums import RegisteredVersion

MAX_BYTES = 1 << 30
MAX_FILES = 1000
WAIT_SECONDS = 5.0


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
        if found.fingerprint != fingerprint:
            raise ArtefactError("The registry's version is not the one that was deployed.")
        where = server.folder_of(version)
        listed = server.read(where, checksums.CHECKSUMS)
        names = _names(checksums.recorded(listed, found))
        with _new_in_store(settings, found) as folder:
            (folder / checksums.CHECKSUMS).write_bytes(listed)
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(server.read(where, name))
            checksums.check(folder, found)


class _Server:
    """MLflow's HTTP interface, for a bounded time and a bounded number of bytes."""

    def __init__(self, client: httpx.Client, settings: Settings) -> None:
        self._client = client
        self._base = settings.tracking_uri.rstrip("/")
        self._name = settings.model_name
        self._end = time.monotonic() + settings.registry_timeout_seconds
        self._left = MAX_BYTES

    def version(self, version: str) -> RegisteredVersion:
        said = self._ask("model-versions/get", name=self._name, version=version)["model_version"]
        tags = {item["key"]: item["value"] for item in said.get("tags", [])}
        return RegisteredVersion(
            version=int(version),
            run_id=str(said.get("run_id", "")),
            fingerprint=tags.get("fingerprint"),
            checksums=tags.get("checksums"),
            metrics={},
        )

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
    folder = bento_store.stored(settings, version)
    try:
        return folder is not None and verify(folder) == fingerprint
    except ArtefactError:
        return False


@contextlib.contextmanager
def _new_in_store(settings: Settings, found: RegisteredVersion) -> Iterator[Path]:
    """Make a model in the Bento store, as its own import would; kept only if the block succeeds."""
    version = str(found.version)
    name = bento_store.tag(settings, version)
    if bento_store.stored(settings, version) is not None:
        # What is there is damaged, or was never this version.
        bentoml.models.delete(name)
    try:
        with bentoml.models.create(
            name,
            module="bentoml.mlflow",
            signatures={"predict": {"batchable": False}},
            **bento_store.described(settings, found),
        ) as model:
            folder = Path(model.path_of(bento_store.IN_STORE))
            folder.mkdir()
            yield folder
    except BentoMLException as error:
        if not _is_stored(settings, version, str(found.fingerprint)):
            raise ArtefactError("The Bento store did not keep the model.") from error


def _names(recorded: dict[str, str]) -> list[str]:
    if len(recorded) > MAX_FILES:
        raise ArtefactError("The model has too many files.")
    for name in recorded:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ArtefactError("A file of the model would land elsewhere.")
    return list(recorded)
