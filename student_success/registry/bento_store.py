"""The Bento store: the versions that this machine can serve."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bentoml
from bentoml.exceptions import BentoMLException

from student_success.core.errors import ArtefactError
from student_success.core.scratch import scratch_folder
from student_success.core.settings import Settings
from student_success.registry import checksums
from student_success.registry.checksums import RegisteredVersion

IN_STORE = "mlflow_model"
"""Folder of the registered model within BentoML's."""


def tag(settings: Settings, version: str) -> str:
    """Name a version in the Bento store."""
    return f"{settings.model_name}:v{version}"


def stored(settings: Settings, version: str) -> Path | None:
    """Return the serving folder of a version in the Bento store, or None if it is not there."""
    try:
        model = bentoml.models.get(tag(settings, version))
    except BentoMLException:
        return None
    return Path(model.path) / IN_STORE / checksums.SERVING


def described(settings: Settings, found: RegisteredVersion) -> dict[str, Any]:
    """Return what the store says of a version beside its files: labels and metadata."""
    metadata: dict[str, Any] = {
        "mlflow_name": settings.model_name,
        "mlflow_version": found.version,
        "run_id": found.run_id,
        "fingerprint": found.fingerprint,
    }
    if found.metrics:
        metadata["metrics"] = found.metrics
    return {"labels": {"mlflow_version": str(found.version)}, "metadata": metadata}


def keep(settings: Settings, found: RegisteredVersion, folder: Path) -> Path:
    """Import a checked model into the Bento store and return its serving folder there.

    A copy already there is replaced unless it is the same, byte for byte in what is served.
    """
    name = tag(settings, str(found.version))
    there = stored(settings, str(found.version))
    if there is not None:
        with contextlib.suppress(ArtefactError, OSError):
            checksums.check(there.parent, found)
            return there
    with contextlib.suppress(BentoMLException):
        # Also what an import that was cut short has left of it, which the store does not show.
        bentoml.models.delete(name)
    with scratch_folder(settings.state_dir) as scratch, _temporary_files_in(scratch):
        bentoml.mlflow.import_model(
            name,
            str(folder),
            **described(settings, found),
        )
    # The import's own return value points at a temporary folder: ask again.
    path = stored(settings, str(found.version))
    if path is None:
        raise ArtefactError("The Bento store did not keep the model.")
    _flush(path.parent)
    return path


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Let BentoML copy where it is cleaned up after a crash."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _flush(folder: Path) -> None:
    """Bring every file to the disk: the deployment that names them is there at once."""
    for path in (folder, *folder.rglob("*")):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
