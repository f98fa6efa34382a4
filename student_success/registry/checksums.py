"""Checksums of a registered model: the SHA-256 of every file, and of the list of them.

The list is stored with the files. Its own SHA-256 and that of the manifest are tags of the version
in MLflow.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from student_success.core.errors import ArtefactError
from student_success.model.artefact import MANIFEST

CHECKSUMS = "checksums.json"
SERVING = "serving"
"""Folder of the serving artefact within a registered model."""


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """One version in MLflow, with the checksums that were recorded at its training.

    Attributes
    ----------
    fingerprint
        SHA-256 of the manifest of the serving artefact.
    checksums
        SHA-256 of the list of checksums.
    created_us
        When it was registered, in microseconds since 1970.
    """

    version: int
    run_id: str
    fingerprint: str | None
    checksums: str | None
    metrics: dict[str, float]
    created_us: int = 0


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(folder: Path) -> str:
    """Write the list of checksums into a model's folder and return the SHA-256 of the list."""
    path = folder / CHECKSUMS
    path.write_text(json.dumps(_files(folder), indent=1, sort_keys=True), encoding="utf-8")
    return digest(path)


def parse(content: bytes, version: RegisteredVersion) -> dict[str, str]:
    """Return the SHA-256 of every file by name, from the bytes of a list of checksums.

    Raises
    ------
    ArtefactError
        If the list is not the one that was recorded with the version.
    """
    if hashlib.sha256(content).hexdigest() != version.checksums:
        raise ArtefactError("The list of checksums is not the one that was recorded.")
    names: dict[str, str] = json.loads(content)
    return names


def check(folder: Path, version: RegisteredVersion) -> None:
    """Compare the files of a registered model with their recorded checksums.

    Raises
    ------
    ArtefactError
        If a file is missing, altered, or was never recorded.
    """
    try:
        if version.checksums is None or version.fingerprint is None:
            raise ArtefactError(
                "This version has no checksums: it was not registered by this program's training."
            )
        if _files(folder) != parse((folder / CHECKSUMS).read_bytes(), version):
            raise ArtefactError("A file of the model is not the one that was recorded.")
        if digest(folder / SERVING / MANIFEST) != version.fingerprint:
            raise ArtefactError("The manifest is not the one that was recorded.")
    except (OSError, ValueError) as error:
        raise ArtefactError("The model artefact is incomplete.") from error


def _files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): digest(path)
        for path in sorted(folder.rglob("*"))
        # MLflow adds "registered_model_meta" when it downloads a version.
        if path.is_file() and path.name not in (CHECKSUMS, "registered_model_meta")
    }
