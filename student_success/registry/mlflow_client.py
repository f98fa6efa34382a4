"""The MLflow registry through MLflow's own library.

The serving process never imports MLflow: the library needs a few hundred megabytes and can be slow
or unavailable. Everything here runs in child processes; each of them ends after
`REGISTRY_TIMEOUT_SECONDS`, even if the registry sends one byte a second.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from student_success.core.clock import iso
from student_success.core.configuration.settings import Settings
from student_success.core.errors import (
    NotFoundError,
    RegistryUnavailableError,
    StudentSuccessError,
)
from student_success.core.memory import is_lack_of_memory
from student_success.core.state_files import private_folder, scratch_folder
from student_success.core.subprocesses import deadline
from student_success.registry import checksums
from student_success.registry.checksums import RegisteredVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

MISSING = "RESOURCE_DOES_NOT_EXIST"


@contextlib.contextmanager
def open_client(settings: Settings) -> Iterator[MlflowClient]:
    """Open MLflow's client for the block.

    Raises
    ------
    RegistryUnavailableError
        If MLflow cannot be reached, times out or fails within the block.
    """
    _set_environment(settings)
    uri, _, _ = split_login(settings.tracking_uri)
    from mlflow import MlflowClient

    timed_out = RegistryUnavailableError("The model registry did not answer in time.")
    try:
        with deadline(settings.registry_timeout_seconds, timed_out):
            with _tables_lock(settings):
                # The URI is given to the client alone; MLflow's global one stays as it is.
                client = MlflowClient(tracking_uri=uri, registry_uri=uri)
                # MLflow opens the database of each of its two stores on the first request.
                client.search_experiments(max_results=1)
                client.search_registered_models(max_results=1)
            yield client
    except (StudentSuccessError, MemoryError):
        raise
    except Exception as error:
        # What a server says is about its own memory.
        if settings.registry_is_local and is_lack_of_memory(error):
            raise
        # MLflow raises arbitrary exception types for malformed responses.
        logger.error("registry_failed", exc_info=True)
        raise RegistryUnavailableError("The model registry failed; see the log.") from error


def split_login(uri: str) -> tuple[str, str, str]:
    """Return a tracking URI without its user and password, the user, and the password."""
    url = urlsplit(uri)
    login, _, address = url.netloc.rpartition("@")
    if not login:
        return uri, "", ""
    user, _, password = login.partition(":")
    return url._replace(netloc=address).geturl(), unquote(user), unquote(password)


def _set_environment(settings: Settings) -> None:
    """Switch telemetry and progress bars off, and bound MLflow's waits and retries.

    MLflow gets user and password of the tracking URI here: it would write a URI into its errors.
    """
    os.environ.update(
        MLFLOW_DISABLE_TELEMETRY="true",
        DO_NOT_TRACK="true",
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
        # Download through the server, never from the store behind it: the store may be out of
        # reach, and its .gz files would arrive unpacked.
        MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD="false",
        MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD="false",
        MLFLOW_HTTP_REQUEST_TIMEOUT=str(max(1, int(settings.registry_timeout_seconds / 4))),
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="2",
    )
    uri, user, password = split_login(settings.tracking_uri)
    if uri != settings.tracking_uri:
        os.environ.update(MLFLOW_TRACKING_USERNAME=user, MLFLOW_TRACKING_PASSWORD=password)


@contextlib.contextmanager
def _tables_lock(settings: Settings) -> Iterator[None]:
    """Let one process at a time open a local registry.

    The first process creates MLflow's tables without a lock; a second one that starts at the same
    time would fail because the tables exist already.
    """
    if not settings.registry_is_local:
        yield
        return
    from filelock import FileLock

    folder = private_folder(settings.state_dir / "locks")
    with FileLock(folder / "registry.lock"):
        yield


def check(settings: Settings) -> None:
    """Check that MLflow answers.

    Raises
    ------
    RegistryUnavailableError
        If it does not.
    """
    with open_client(settings):
        pass


def find(settings: Settings, version: int) -> RegisteredVersion:
    """Return a version with its recorded checksums and metrics.

    Raises
    ------
    NotFoundError
        If MLflow has no such version.
    RegistryUnavailableError
        If MLflow does not answer.
    """
    with open_client(settings) as client:
        from mlflow.exceptions import MlflowException

        try:
            item = client.get_model_version(settings.model_name, str(version))
        except MlflowException as error:
            if error.error_code == MISSING:
                raise NotFoundError(f"There is no version {version} of the model.") from error
            raise
        return RegisteredVersion(
            version=version,
            run_id=item.run_id or "",
            fingerprint=item.tags.get("fingerprint"),
            checksums=item.tags.get("checksums"),
            metrics={} if (run := _run(client, item.run_id)) is None else dict(run.data.metrics),
            created_us=int(item.creation_timestamp) * 1000,
        )


def versions(settings: Settings) -> list[dict[str, Any]]:
    """Return every registered version with its metrics, newest first."""
    with open_client(settings) as client:
        items = client.search_model_versions(f"name = '{settings.model_name}'")
        # The search leaves the aliases of each version empty; the registered model has them.
        promoted = _alias_version(client, settings)
        rows = [_version_answer(client, item, promoted=promoted) for item in items]
    return sorted(rows, key=lambda row: -row["version"])


def _version_answer(client: MlflowClient, item: Any, *, promoted: str | None) -> dict[str, Any]:
    """Return the fields of `VersionAnswer` that the registry knows."""
    run = _run(client, item.run_id)
    tags = dict(item.tags)
    return {
        "version": int(item.version),
        "created_at": iso(item.creation_timestamp * 1000),
        "run_id": item.run_id,
        "best_model": None if run is None else run.data.params.get("family"),
        "metrics": {} if run is None else dict(run.data.metrics),
        "dataset": {
            "name": tags.get("dataset"),
            "sha256": tags.get("dataset_sha256"),
            "synthetic": tags.get("synthetic") == "true",
        },
        "alias": str(item.version) == promoted,
    }


def _run(client: MlflowClient, run_id: str | None) -> Any:
    """Return the run of a version; None if it has none, or if it was deleted for good."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id) if run_id else None
    except MlflowException as error:
        if error.error_code == MISSING:
            return None
        raise


@contextlib.contextmanager
def downloaded(settings: Settings, version: int) -> Iterator[tuple[RegisteredVersion, Path]]:
    """Download a version to a temporary folder and check every file's recorded checksum.

    Nothing of the model is loaded or run.

    Raises
    ------
    NotFoundError
        If MLflow has no such version.
    ArtefactError
        If a file is missing, altered, or was never recorded.
    RegistryUnavailableError
        If it cannot be downloaded.
    """
    registered = find(settings, version)
    with scratch_folder(settings.state_dir) as scratch:
        with open_client(settings) as client:
            source = client.get_model_version_download_uri(settings.model_name, str(version))
            from mlflow.artifacts import download_artifacts

            folder = Path(
                download_artifacts(
                    artifact_uri=source, dst_path=str(scratch), tracking_uri=client.tracking_uri
                )
            )
        checksums.check(folder, registered)
        yield registered, folder


def alias(settings: Settings) -> str | None:
    """Return the version MLflow's alias points to, or None if there is no alias."""
    with open_client(settings) as client:
        return _alias_version(client, settings)


def _alias_version(client: MlflowClient, settings: Settings) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        model = client.get_registered_model(settings.model_name)
    except MlflowException as error:
        if error.error_code == MISSING:
            return None
        raise
    version = dict(model.aliases).get(settings.model_alias)
    return None if version is None else str(version)


def move_alias(settings: Settings, version: str | None) -> None:
    """Point MLflow's alias to a version, or delete the alias if `version` is None."""
    with open_client(settings) as client:
        if version is not None:
            client.set_registered_model_alias(settings.model_name, settings.model_alias, version)
        elif _alias_version(client, settings) is not None:
            client.delete_registered_model_alias(settings.model_name, settings.model_alias)
