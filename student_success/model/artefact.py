"""The hash of every file of an artefact, checked before any of them is read."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from student_success.core.errors import ArtefactError

FORMAT = 2
"""1: one set of trees, a number a leaf; 2: trees for each horizon, a distribution a leaf."""
MANIFEST = "manifest.json"


def verify(folder: Path) -> str:
    """Check every file against the manifest and return the artefact's fingerprint.

    Raises
    ------
    ArtefactError
        If the manifest or a file is missing, altered or of an unknown format.
    """
    try:
        raw = (folder / MANIFEST).read_bytes()
        manifest: Mapping[str, Any] = json.loads(raw)
        if manifest["format"] != FORMAT:
            raise ArtefactError("The model artefact has a format this program does not read.")
        for name, expected in manifest["files"].items():
            if Path(name).name != name:
                raise ArtefactError("The manifest names a file outside the artefact.")
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
                raise ArtefactError(f"The model file {name} is not the one that was recorded.")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactError("The model artefact is incomplete or damaged.") from error
    return hashlib.sha256(raw).hexdigest()


def finite_json(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not have, by None, and tuples by lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite_json(item) for key, item in value.items()}
    return [finite_json(item) for item in value] if isinstance(value, list | tuple) else value
