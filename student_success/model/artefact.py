"""The files of a served model: verify their checksums and read their JSON documents."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from student_success.core.errors import ArtefactError
from student_success.domain.students import Horizon

FORMAT = 3
"""3: the change of those who finish and the chance of leaving; see `two_parts`."""
READABLE = (2, FORMAT)
"""2: a distribution of changes a leaf; see `change_shares`."""
MANIFEST = "manifest.json"
_DOCUMENTS = ("serving.json", "card.json", "recipe.json", "drift_reference.json")


def trees_file(horizon: Horizon) -> str:
    """Return the file name of a horizon's trees, without the plus sign, which URLs may lose."""
    return f"trees-{horizon.replace('+', '-')}.onnx.gz"


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
        if manifest["format"] not in READABLE:
            raise ArtefactError("The model artefact has a format that this program cannot read.")
        for name, expected in manifest["files"].items():
            if Path(name).name != name:
                raise ArtefactError("The manifest names a file outside the artefact.")
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
                raise ArtefactError(f"The model file {name} does not match its recorded checksum.")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactError("The model artefact is incomplete or damaged.") from error
    return hashlib.sha256(raw).hexdigest()


class Artefact:
    """A verified artefact. Its JSON documents stay in memory, so that its folder may be removed.

    Attributes
    ----------
    fingerprint
        SHA-256 of the manifest: it identifies every byte of the artefact.
    """

    def __init__(self, folder: Path) -> None:
        """Verify every file; raises `ArtefactError` as `verify` does."""
        self.fingerprint = verify(folder)
        self.folder = folder
        self._documents = {
            name: (folder / name).read_bytes() for name in _DOCUMENTS if (folder / name).is_file()
        }

    def read(self, name: str) -> dict[str, Any]:
        """Read one JSON document of the artefact."""
        content = self._documents.get(name) or (self.folder / name).read_bytes()
        document: dict[str, Any] = json.loads(content)
        return document

    @cached_property
    def serving(self) -> dict[str, Any]:
        """How inputs are encoded and predictions calibrated."""
        return self.read("serving.json")

    @cached_property
    def card(self) -> dict[str, Any]:
        """The model card, as data."""
        return self.read("card.json")

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """What is needed to refit this model on other pupils."""
        return self.read("recipe.json")

    @cached_property
    def drift_reference(self) -> dict[str, Any]:
        """How features and predictions were distributed in training."""
        return self.read("drift_reference.json")

    @property
    def dataset(self) -> dict[str, Any]:
        """Name, SHA-256 and row count of the training data, and whether it is synthetic."""
        dataset: dict[str, Any] = self.recipe["data"]
        return dataset

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Figures of the evaluation by name, e.g. ``G1+G2/candidate/mae``."""
        return {
            f"{horizon}/{model}/{measure}": value["mean"]
            for horizon, by_model in self.card["metrics"].items()
            for model, measured in by_model.items()
            for measure, value in measured.items()
        }


def finite_json(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not have, by None, and tuples by lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite_json(item) for key, item in value.items()}
    return [finite_json(item) for item in value] if isinstance(value, list | tuple) else value
