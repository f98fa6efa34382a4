"""Choose and verify the model of a bulk run, and load it in the workers."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from student_success.core.configuration.settings import Settings
from student_success.core.errors import ArtefactError, NotFoundError
from student_success.domain import recorded_profile
from student_success.domain.decision import SEED
from student_success.model.predictor import Predictor

if TYPE_CHECKING:
    from student_success.storage.deployments import Deployment


@dataclass(frozen=True, slots=True)
class Model:
    """A verified version: the SHA-256 of its manifest, and its serving folder on this machine.

    `files` is their content, for workers on another machine.
    """

    version: str
    fingerprint: str
    alarm_recall: float
    folder: Path = field(compare=False)
    files: Mapping[str, bytes] | None = field(default=None, compare=False, repr=False)

    def packed(self) -> Model:
        """Return the model with its files."""
        content = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        return replace(self, files=content)


def choose(settings: Settings, name: str | None) -> Model:
    """Find a model, verify its files and check its recorded answers.

    Parameters
    ----------
    name
        ``"seed"``, the number of a version that was deployed, or a folder; the served version if
        None.

    Raises
    ------
    ArtefactError
        If it is damaged or does not answer as recorded. No other model is used instead.
    NotFoundError
        If there is no such version.
    ProfileMismatchError
        If it was trained for another profile.
    """
    version, folder, fingerprint = _find(settings, name)
    recorded_profile.check_version(folder, version or name or SEED)
    predictor = Predictor.load(folder, version=version, alarm_recall=settings.alarm_recall)
    predictor.check_smoke()
    if fingerprint not in (None, predictor.fingerprint):
        raise ArtefactError(f"The stored version {version} is not the one that was deployed.")
    label = version or f"folder:{predictor.fingerprint[:12]}"
    return Model(label, predictor.fingerprint, settings.alarm_recall, folder.resolve())


@lru_cache(maxsize=1)
def load(model: Model) -> Predictor:
    """Load the model in this process, once.

    Raises
    ------
    ArtefactError
        If its files are not those that were chosen.
    """
    with tempfile.TemporaryDirectory(prefix="student-success-model-") as unpacked:
        folder = model.folder if model.files is None else Path(unpacked)
        for name, content in (model.files or {}).items():
            (folder / name).write_bytes(content)
        predictor = Predictor.load(folder, version=model.version, alarm_recall=model.alarm_recall)
    if predictor.fingerprint != model.fingerprint:
        raise ArtefactError("The model is not the one that this run started with.")
    return predictor


def _find(settings: Settings, name: str | None) -> tuple[str, Path, str | None]:
    """Return version (empty for a folder), folder, and the fingerprint of a deployed version."""
    if name is not None and name != SEED and not name.isdecimal():
        folder = Path(name)
        # In a complete MLflow model, the serving files are in a subfolder.
        return "", folder / "serving" if (folder / "serving").is_dir() else folder, None
    database = Path(settings.database.removeprefix("sqlite:///"))
    is_new = settings.database.startswith("sqlite:///") and not database.exists()
    deployment = None if is_new or name == SEED else _find_deployment(settings, name)
    if deployment is None and name not in (None, SEED):
        raise NotFoundError(f"Version {name} was never deployed here.")
    if deployment is None or deployment.to_version == SEED:
        return SEED, settings.seed_model_path, None
    from student_success.registry import bento_store, versions

    version, fingerprint = deployment.to_version, deployment.fingerprint
    # A stored copy that is damaged is reported by `choose`, not fetched again.
    if bento_store.stored(settings, version) is None:
        asyncio.run(versions.ensure_stored(settings, version, fingerprint=fingerprint))
    return version, versions.folder_of(settings, version), fingerprint


def _find_deployment(settings: Settings, name: str | None) -> Deployment | None:
    from student_success.storage.deployments import Deployments
    from student_success.storage.engine import connect
    from student_success.storage.migrate import migrate

    migrate(settings.database, state_dir=settings.state_dir)
    deployments = Deployments(connect(settings.database))
    if name is None:
        return deployments.current()
    return next((row for row in deployments.page() if row.to_version == name), None)
