"""MLflow: the only file that talks to its library.

The serving process only ever looks into the Bento store. Everything that needs MLflow runs in a
child process, because MLflow brings a few hundred megabytes and can be slow, wrong or away. Each
conversation there has an end, after `REGISTRY_TIMEOUT_SECONDS`, whatever the registry does.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import httpx

from student_success.core.clock import iso
from student_success.core.errors import (
    NotFoundError,
    RegistryUnavailableError,
    StudentSuccessError,
)
from student_success.core.scratch import scratch_folder
from student_success.core.settings import Settings
from student_success.core.subprocesses import deadline
from student_success.model.artefact import MANIFEST
from student_success.registry import checksums as seal
from student_success.registry.checksums import RegisteredVersion

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

_MODEL_FOLDER = "model"
PEEK_BYTES = 1 << 20


class Candidate(Protocol):
    """What a training hands over to be registered."""

    @property
    def pipeline(self) -> Any:
        """Fitted scikit-learn estimator that answers with the grade."""

    @property
    def code(self) -> tuple[Path, ...]:
        """Source files that must travel with `pipeline` for it to load elsewhere."""

    @property
    def serving(self) -> Path:
        """Folder of the serving artefact."""

    @property
    def best_model(self) -> str:
        """Name of the family that won."""

    @property
    def best_params(self) -> dict[str, Any]:
        """Its parameters."""

    @property
    def metrics(self) -> dict[str, float]:
        """Figures by name."""

    @property
    def dataset(self) -> dict[str, Any]:
        """Name, SHA-256 and rows of the data, and whether it is synthetic."""

    @property
    def input_example(self) -> pd.DataFrame:
        """A few pupils."""


def prepare(settings: Settings) -> None:
    """Set MLflow up for this process: no telemetry, bounded waits, no progress bars."""
    os.environ.update(
        MLFLOW_DISABLE_TELEMETRY="true",
        DO_NOT_TRACK="true",
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
        # Through the server, never straight from the store behind it: that one may be out of reach,
        # and what it holds as .gz would arrive unpacked.
        MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD="false",
        MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD="false",
        MLFLOW_HTTP_REQUEST_TIMEOUT=str(max(1, int(settings.registry_timeout_seconds / 4))),
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="2",
    )


@contextlib.contextmanager
def _client(settings: Settings) -> Iterator[MlflowClient]:
    """Open MLflow; whatever it says about itself being away becomes one error."""
    prepare(settings)
    from mlflow import MlflowClient

    late = RegistryUnavailableError("The model registry did not answer in time.")
    try:
        with deadline(settings.registry_timeout_seconds, late):
            with _tables_lock(settings):
                # The URI goes to the client alone: the process-wide one is not ours to set.
                client = MlflowClient(
                    tracking_uri=settings.tracking_uri, registry_uri=settings.tracking_uri
                )
                # Both of its stores open their database when they are first asked.
                client.search_experiments(max_results=1)
                client.search_registered_models(max_results=1)
            yield client
    except (StudentSuccessError, MemoryError):
        raise
    except Exception as error:
        # Whatever it is: to an answer that makes no sense, MLflow raises what comes to its mind.
        logger.error("registry_failed", exc_info=True)
        raise RegistryUnavailableError(
            "The model registry does not answer as it should."
        ) from error


@contextlib.contextmanager
def _tables_lock(settings: Settings) -> Iterator[None]:
    """Let one process at a time open a local registry.

    The first makes MLflow's tables, without a lock of its own: a second one that starts meanwhile
    would fail on tables that exist already.
    """
    if not settings.registry_is_local:
        yield
        return
    folder = settings.state_dir / "locks"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "registry.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def register_candidate(settings: Settings, candidate: Candidate) -> RegisteredVersion:
    """Log the training as an MLflow run and register its model as a new version.

    The alias does not move.

    Raises
    ------
    RegistryUnavailableError
        If MLflow cannot be reached or written.
    """
    with _client(settings) as client, scratch_folder(settings.state_dir) as scratch:
        folder = scratch / _MODEL_FOLDER
        _save(candidate, folder)
        checksums = seal.write(folder)
        fingerprint = seal.digest(folder / seal.SERVING / MANIFEST)
        run_id = client.create_run(_experiment(client, settings)).info.run_id
        state = "FAILED"
        try:
            _log_run(client, run_id, candidate)
            client.log_artifacts(run_id, str(folder), _MODEL_FOLDER)
            _ensure_model(client, settings.model_name)
            created = client.create_model_version(
                settings.model_name,
                source=f"runs:/{run_id}/{_MODEL_FOLDER}",
                run_id=run_id,
                tags={
                    "fingerprint": fingerprint,
                    "checksums": checksums,
                    "dataset": str(candidate.dataset["name"]),
                    "dataset_sha256": str(candidate.dataset["sha256"]),
                    "synthetic": str(candidate.dataset["synthetic"]).lower(),
                },
            )
            state = "FINISHED"
        finally:
            client.set_terminated(run_id, status=state)
        return RegisteredVersion(
            version=int(created.version),
            run_id=run_id,
            fingerprint=fingerprint,
            checksums=checksums,
            metrics=candidate.metrics,
        )


def check(settings: Settings) -> None:
    """See that MLflow answers.

    Raises
    ------
    RegistryUnavailableError
        If it does not.
    """
    with _client(settings):
        pass


def find(settings: Settings, version: int) -> RegisteredVersion:
    """Look a version up.

    Raises
    ------
    NotFoundError
        If MLflow has no such version.
    RegistryUnavailableError
        If MLflow does not answer.
    """
    with _client(settings) as client:
        return _find(client, settings, version)


def versions(settings: Settings) -> list[dict[str, Any]]:
    """Return every registered version with its figures, newest first."""
    with _client(settings) as client:
        found = client.search_model_versions(f"name = '{settings.model_name}'")
        rows = [_described(client, item, alias_at=settings.model_alias) for item in found]
    return sorted(rows, key=lambda row: -row["version"])


@contextlib.contextmanager
def fetched(settings: Settings, found: RegisteredVersion) -> Iterator[Path]:
    """Download a version to a folder of its own and check every byte against what was recorded.

    Nothing of it is loaded or run.

    Raises
    ------
    ArtefactError
        If a file is missing, altered, or was never recorded.
    RegistryUnavailableError
        If it cannot be downloaded.
    """
    with scratch_folder(settings.state_dir) as scratch:
        with _client(settings) as client:
            source = client.get_model_version_download_uri(settings.model_name, str(found.version))
            from mlflow.artifacts import download_artifacts

            folder = Path(
                download_artifacts(
                    artifact_uri=source, dst_path=str(scratch), tracking_uri=settings.tracking_uri
                )
            )
        seal.check(folder, found)
        yield folder


def alias(settings: Settings) -> str | None:
    """Return the version MLflow's alias points to, or None where there is none."""
    with _client(settings) as client:
        from mlflow.exceptions import MlflowException

        try:
            model = client.get_registered_model(settings.model_name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        found = dict(model.aliases).get(settings.model_alias)
        return None if found is None else str(found)


def move_alias(settings: Settings, version: str | None) -> None:
    """Point MLflow's alias to a version, or take it away with None."""
    with _client(settings) as client:
        if version is not None:
            client.set_registered_model_alias(settings.model_name, settings.model_alias, version)
        elif alias(settings) is not None:
            client.delete_registered_model_alias(settings.model_name, settings.model_alias)


def peek(settings: Settings, *, timeout: float = 2.0) -> tuple[bool, str | None]:
    """Look where the alias points, without MLflow itself; cheap enough to do often.

    Returns
    -------
    tuple
        Whether the registry answers, and the version its alias points to.
    """
    if settings.registry_is_local:
        return _peek_database(settings)
    try:
        model = asyncio.run(asyncio.wait_for(_ask_server(settings), timeout))
        if model is None:
            return True, None  # No such model yet is an answer.
        aliases = {item["alias"]: str(item["version"]) for item in model.get("aliases", [])}
        return True, aliases.get(settings.model_alias)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False, None
    except (httpx.HTTPError, httpx.InvalidURL):
        return False, None


async def _ask_server(settings: Settings) -> dict[str, Any] | None:
    """Return what MLflow's server says of the model, None if it knows of none."""
    url = f"{settings.tracking_uri.rstrip('/')}/api/2.0/mlflow/registered-models/get"
    async with (
        httpx.AsyncClient(follow_redirects=True) as client,
        client.stream("GET", url, params={"name": settings.model_name}) as answer,
    ):
        body = b""
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > PEEK_BYTES:
                raise ValueError("The registry says too much.")
    if answer.status_code == 404 and json.loads(body)["error_code"] == "RESOURCE_DOES_NOT_EXIST":
        return None
    answer.raise_for_status()
    found: dict[str, Any] = json.loads(body)["registered_model"]
    return found


def _peek_database(settings: Settings) -> tuple[bool, str | None]:
    path = Path(settings.tracking_uri.removeprefix("sqlite:///"))
    if not path.exists():
        return True, None  # A registry that was never used is not a fault.
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            row = connection.execute(
                "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?",
                (settings.model_name, settings.model_alias),
            ).fetchone()
            return True, None if row is None else str(row[0])
    except sqlite3.Error as error:
        # While MLflow makes its tables there is nothing to read yet.
        return "no such table" in str(error) or "locked" in str(error), None


def _find(client: MlflowClient, settings: Settings, version: int) -> RegisteredVersion:
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_model_version(settings.model_name, str(version))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise NotFoundError(f"There is no version {version} of the model.") from error
        raise
    return RegisteredVersion(
        version=version,
        run_id=found.run_id or "",
        fingerprint=found.tags.get("fingerprint"),
        checksums=found.tags.get("checksums"),
        metrics=dict(client.get_run(found.run_id).data.metrics) if found.run_id else {},
    )


def _described(client: MlflowClient, item: Any, *, alias_at: str) -> dict[str, Any]:
    """Return the fields of `VersionAnswer` that the registry knows."""
    run = client.get_run(item.run_id) if item.run_id else None
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
        "alias": alias_at in (item.aliases or ()),
    }


def _experiment(client: MlflowClient, settings: Settings) -> str:
    name = settings.mlflow_experiment_name
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    root = settings.artefact_root.as_uri() if settings.registry_is_local else None
    return str(client.create_experiment(name, artifact_location=root))


def _ensure_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="Final grade of a pupil, 0 to 20")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _log_run(client: MlflowClient, run_id: str, candidate: Candidate) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

    data = candidate.dataset
    now = int(time.time() * 1000)
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, now, 0) for name, value in candidate.metrics.items()],
        params=[
            Param("family", candidate.best_model),
            *(Param(name, str(value)) for name, value in candidate.best_params.items()),
        ],
        tags=[
            RunTag("dataset_sha256", str(data["sha256"])),
            RunTag("synthetic", str(data["synthetic"]).lower()),
        ],
    )
    client.log_inputs(
        run_id,
        datasets=[
            DatasetInput(
                Dataset(
                    name=str(data["name"]),
                    digest=str(data["sha256"])[:36],
                    source_type="local",
                    source=json.dumps({"name": data["name"]}),
                    profile=json.dumps({"rows": data["rows"], "sha256": data["sha256"]}),
                ),
                [InputTag("mlflow.data.context", "training")],
            )
        ],
    )


def _save(candidate: Candidate, folder: Path) -> None:
    import mlflow.sklearn
    import skops.io
    from mlflow.models import infer_signature

    # We trained it a moment ago: its types are known good, and named so that a loader can refuse
    # any other.
    trusted = skops.io.get_untrusted_types(data=skops.io.dumps(candidate.pipeline))
    example = candidate.input_example
    # MLflow would refuse 10.5 where its signature says integer, so whole numbers are floats in it.
    example = example.astype(dict.fromkeys(example.select_dtypes("number").columns, float))
    mlflow.sklearn.save_model(
        candidate.pipeline,
        folder,
        serialization_format="skops",
        skops_trusted_types=trusted,
        pip_requirements=["scikit-learn", "scipy", "numpy", "pandas", "skops"],
        code_paths=[str(path) for path in candidate.code],
        signature=infer_signature(example, candidate.pipeline.predict(example)),
        input_example=example,
    )
    shutil.copytree(candidate.serving, folder / seal.SERVING)
