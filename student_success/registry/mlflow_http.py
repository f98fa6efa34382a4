"""A small client of MLflow's HTTP interface, for the processes that serve predictions.

MLflow's own library takes seconds to import and a few hundred megabytes. A worker only needs to
know where the alias points, and a replica must follow a promotion within two seconds, so both ask
the server directly. If the artefacts are not behind the server, `mlflow_client` downloads them in a
child process instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from student_success.core.configuration.settings import Settings
from student_success.core.errors import ArtefactError, RegistryUnavailableError
from student_success.core.state_files import scratch_folder
from student_success.registry import checksums
from student_success.registry.checksums import RegisteredVersion

MAX_BYTES = 1 << 30
MAX_FILES = 1000
WAIT_SECONDS = 5.0
PEEK_SECONDS = 2.0
PEEK_BYTES = 1 << 20


class MlflowServer:
    """MLflow's HTTP interface, limited in bytes; `connect` limits the time.

    Parameters
    ----------
    max_bytes
        Size of all responses together.
    """

    def __init__(self, client: httpx.AsyncClient, settings: Settings, *, max_bytes: int) -> None:
        self._client = client
        self._url = settings.tracking_uri.rstrip("/")
        self._name = settings.model_name
        self._bytes_left = max_bytes

    async def alias(self, name: str) -> str | None:
        """Return the version an alias of the model points to, or None if there is none."""
        try:
            response = await self._get_json("registered-models/get", name=self._name)
        except httpx.HTTPStatusError as error:
            if (
                error.response.status_code == 404
                and error.response.json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"
            ):
                return None
            raise
        model = response["registered_model"]
        aliases = {item["alias"]: str(item["version"]) for item in model.get("aliases", [])}
        return aliases.get(name)

    async def version(self, version: int) -> RegisteredVersion:
        """Return a version with its recorded checksums."""
        response = await self._get_json("model-versions/get", name=self._name, version=str(version))
        item = response["model_version"]
        tags = {tag["key"]: tag["value"] for tag in item.get("tags", [])}
        return RegisteredVersion(
            version=version,
            run_id=str(item.get("run_id", "")),
            fingerprint=tags.get("fingerprint"),
            checksums=tags.get("checksums"),
            metrics={},
        )

    async def download(self, version: RegisteredVersion, folder: Path) -> None:
        """Download the recorded files of a version into a folder.

        Raises
        ------
        ArtefactError
            If the list of files is not the one that was recorded, or names a path outside `folder`.
        """
        source = await self._artefact_path(version.version)
        content = await self._get_artefact(source, checksums.CHECKSUMS)
        names = checksums.parse(content, version)
        if len(names) > MAX_FILES:
            raise ArtefactError("The model has too many files.")
        (folder / checksums.CHECKSUMS).write_bytes(content)
        for name in names:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise ArtefactError("A file of the model has a path outside the model's folder.")
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(await self._get_artefact(source, name))

    async def _artefact_path(self, version: int) -> str:
        response = await self._get_json(
            "model-versions/get-download-uri", name=self._name, version=str(version)
        )
        uri = urlsplit(response["artifact_uri"])
        if uri.scheme == "runs":
            run_id, _, path = uri.path.strip("/").partition("/")
            run = await self._get_json("runs/get", run_id=run_id)
            uri = urlsplit(f"{run['run']['info']['artifact_uri']}/{path}")
        if uri.scheme != "mlflow-artifacts":
            raise RegistryUnavailableError("The artefacts are not behind MLflow's server.")
        return str(uri.path).strip("/")

    async def _get_artefact(self, folder: str, name: str) -> bytes:
        return await self._get("mlflow-artifacts/artifacts/" + quote(f"{folder}/{name}"))

    async def _get_json(self, path: str, **query: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(await self._get(f"mlflow/{path}", **query))
        return content

    async def _get(self, path: str, **query: str) -> bytes:
        content = bytearray()
        url = f"{self._url}/api/2.0/{path}"
        async with self._client.stream("GET", url, params=query or None) as response:
            # Raw bytes: a stored .gz file must not be unpacked on the way.
            async for part in response.aiter_raw():
                self._bytes_left -= len(part)
                if self._bytes_left < 0:
                    raise RegistryUnavailableError("The model registry sends too much.")
                content += part
        if response.is_error:
            raise httpx.HTTPStatusError(
                f"status {response.status_code}",
                request=response.request,
                response=httpx.Response(response.status_code, content=bytes(content)),
            )
        return bytes(content)


@contextlib.asynccontextmanager
async def connect(
    settings: Settings, *, seconds: float, max_bytes: int
) -> AsyncIterator[MlflowServer]:
    """Open the HTTP interface; any failure within the block is a `RegistryUnavailableError`.

    Parameters
    ----------
    seconds
        Time for the whole block. The timeouts of httpx apply to each read, so that a server that
        sends a byte a second would never reach one.
    """
    try:
        async with (
            asyncio.timeout(seconds),
            httpx.AsyncClient(
                timeout=min(seconds, WAIT_SECONDS),
                follow_redirects=True,
                headers={"Accept-Encoding": "identity"},
            ) as client,
        ):
            yield MlflowServer(client, settings, max_bytes=max_bytes)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise RegistryUnavailableError("The model registry does not answer.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryUnavailableError("The model registry sent a malformed response.") from error


@contextlib.contextmanager
def downloaded(settings: Settings, version: int) -> Iterator[tuple[RegisteredVersion, Path]]:
    """Download a version to a temporary folder and check every file's recorded checksum.

    Raises
    ------
    RegistryUnavailableError
        If MLflow's server does not send it.
    ArtefactError
        If a file is missing, altered, or was never recorded.
    """
    with scratch_folder(settings.state_dir) as folder:
        registered = asyncio.run(_download(settings, version, folder))
        checksums.check(folder, registered)
        yield registered, folder


async def _download(settings: Settings, version: int, folder: Path) -> RegisteredVersion:
    seconds = settings.registry_timeout_seconds
    async with connect(settings, seconds=seconds, max_bytes=MAX_BYTES) as server:
        registered = await server.version(version)
        await server.download(registered, folder)
        return registered


def peek(settings: Settings) -> tuple[bool, str | None]:
    """Look up the alias without MLflow's library; cheap enough to do every few seconds.

    Returns
    -------
    tuple
        Whether the registry answers, and the version its alias points to.
    """
    if settings.registry_is_local:
        return _peek_database(settings)
    try:
        return True, asyncio.run(_alias(settings))
    except RegistryUnavailableError:
        return False, None


async def _alias(settings: Settings) -> str | None:
    async with connect(settings, seconds=PEEK_SECONDS, max_bytes=PEEK_BYTES) as server:
        return await server.alias(settings.model_alias)


def _peek_database(settings: Settings) -> tuple[bool, str | None]:
    """Read the alias from the SQLite file of a local registry."""
    path = Path(settings.tracking_uri.removeprefix("sqlite:///")).absolute()
    if not path.exists():
        return True, None  # A registry that was never used is not a fault.
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        ) as connection:
            row = connection.execute(
                "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?",
                (settings.model_name, settings.model_alias),
            ).fetchone()
            return True, None if row is None else str(row[0])
    except sqlite3.Error as error:
        # While MLflow creates its tables there is nothing to read yet.
        return "no such table" in str(error) or "locked" in str(error), None
