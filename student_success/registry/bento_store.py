"""The Bento store: the model versions that this machine can serve."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bentoml
from bentoml.exceptions import BentoMLException

from student_success.core.configuration.settings import Settings
from student_success.core.errors import ArtefactError
from student_success.core.state_files import close_to_others, flush, private_folder, scratch_folder
from student_success.registry import checksums
from student_success.registry.checksums import RegisteredVersion

MODEL_FOLDER = "mlflow_model"
"""Folder of the MLflow model within a model of the Bento store; BentoML prescribes the name."""
LOCK_TIMEOUT_SECONDS = 30.0


def tag(settings: Settings, version: str) -> str:
    """Return the name of a version in the Bento store."""
    return f"{settings.model_name}:v{version}"


def stored(settings: Settings, version: str) -> Path | None:
    """Return the serving folder of a version in the Bento store, or None if it is missing."""
    try:
        model = bentoml.models.get(tag(settings, version))
    except BentoMLException:
        return None
    return Path(model.path) / MODEL_FOLDER / checksums.SERVING


def is_empty(settings: Settings) -> bool:
    """Tell whether the Bento store holds no version of the model."""
    try:
        return not bentoml.models.list(settings.model_name)
    except BentoMLException:
        return True


def keep(settings: Settings, version: RegisteredVersion, folder: Path) -> Path:
    """Import a checked MLflow model into the Bento store and return its serving folder there.

    A stored copy is replaced unless its files have the recorded checksums.

    Raises
    ------
    ArtefactError
        If the store does not hold the version afterwards.
    """
    from filelock import FileLock, Timeout

    locks = private_folder(settings.state_dir / "locks")
    try:
        # Several workers of this machine may fetch the same version at the same time.
        with FileLock(locks / "bento-store.lock", timeout=LOCK_TIMEOUT_SECONDS):
            return _keep(settings, version, folder)
    except Timeout as error:
        raise ArtefactError(
            "Another process is importing into the Bento store; nothing was changed. Try again."
        ) from error


def _keep(settings: Settings, version: RegisteredVersion, folder: Path) -> Path:
    existing = stored(settings, str(version.version))
    if existing is not None:
        with contextlib.suppress(ArtefactError, OSError):
            checksums.check(existing.parent, version)
            return existing
    name = tag(settings, str(version.version))
    with contextlib.suppress(BentoMLException):
        # Also removes the rest of an interrupted import, which `stored` does not return.
        bentoml.models.delete(name)
    try:
        # `bentoml.mlflow.import_model` does the same, but imports MLflow, which takes seconds.
        with (
            scratch_folder(settings.state_dir) as scratch,
            _temporary_files_in(scratch),
            bentoml.models.create(
                name,
                module="bentoml.mlflow",
                signatures={"predict": {"batchable": False}},
                labels={"mlflow_version": str(version.version)},
                metadata=_metadata(settings, version),
            ) as model,
        ):
            shutil.copytree(folder, model.path_of(MODEL_FOLDER))
            close_to_others(Path(model.path_of(MODEL_FOLDER)))
    except BentoMLException as error:
        raise ArtefactError(f"The Bento store did not keep version {version.version}.") from error
    path = stored(settings, str(version.version))
    if path is None:
        raise ArtefactError(f"The Bento store did not keep version {version.version}.")
    _flush(path.parent)
    return path


def _metadata(settings: Settings, version: RegisteredVersion) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "mlflow_name": settings.model_name,
        "mlflow_version": version.version,
        "run_id": version.run_id,
        "fingerprint": version.fingerprint,
    }
    if version.metrics:
        metadata["metrics"] = version.metrics
    return metadata


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Make BentoML use a temporary directory that is removed after a crash."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _flush(folder: Path) -> None:
    """Write every file to the disk, because the deployment row that names them follows at once."""
    for path in (folder, *folder.rglob("*")):
        flush(path)
