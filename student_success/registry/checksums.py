"""The seal of a registered model: the SHA-256 of every file, and of the list of them.

The list travels with the files, its own SHA-256 and the manifest's are recorded with the version.
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
    """One version in MLflow, and what its seal must be."""

    version: int
    run_id: str
    fingerprint: str | None
    checksums: str | None
    metrics: dict[str, float]


def digest(path: Path) -> str:
    """Return a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(folder: Path) -> str:
    """Write the SHA-256 of every file, and return that of the list."""
    path = folder / CHECKSUMS
    path.write_text(json.dumps(_files(folder), indent=1, sort_keys=True), encoding="utf-8")
    return digest(path)


def recorded(listed: bytes, found: RegisteredVersion) -> dict[str, str]:
    """Return the SHA-256 of every file by name, of a list that was recorded with the version.

    Raises
    ------
    ArtefactError
        If it was not.
    """
    if hashlib.sha256(listed).hexdigest() != found.checksums:
        raise ArtefactError("The list of checksums is not the one that was recorded.")
    names: dict[str, str] = json.loads(listed)
    return names


def check(folder: Path, found: RegisteredVersion) -> None:
    """Compare a registered model with its seal.

    Raises
    ------
    ArtefactError
        If a file is missing, altered, or was never recorded.
    """
    try:
        if found.checksums is None or found.fingerprint is None:
            raise ArtefactError(
                "This version was not registered by this program's training: it has no checksums."
            )
        if _files(folder) != recorded((folder / CHECKSUMS).read_bytes(), found):
            raise ArtefactError("A file of the model is not the one that was recorded.")
        if digest(folder / SERVING / MANIFEST) != found.fingerprint:
            raise ArtefactError("The manifest is not the one that was recorded.")
    except (OSError, ValueError) as error:
        raise ArtefactError("The model artefact is incomplete.") from error


def _files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): digest(path)
        for path in sorted(folder.rglob("*"))
        # MLflow writes this one by itself when a version is downloaded.
        if path.is_file() and path.name not in (CHECKSUMS, "registered_model_meta")
    }
