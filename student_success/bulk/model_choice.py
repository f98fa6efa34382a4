"""Which model a bulk run answers with, and how it reaches the workers."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from student_success.core.errors import ArtefactError, NotFoundError
from student_success.core.settings import Settings
from student_success.domain.decision import SEED
from student_success.model.predictor import Predictor


@dataclass(frozen=True, slots=True)
class Model:
    """A verified version.

    Attributes
    ----------
    fingerprint
        SHA-256 of its manifest.
    folder
        Where it is on this machine.
    files
        Its content, for workers on another machine; None for those on this one.
    """

    version: str
    fingerprint: str
    alarm_recall: float
    folder: Path = field(compare=False)
    files: Mapping[str, bytes] | None = field(default=None, compare=False, repr=False)

    def packed(self) -> Model:
        """Return the model with its content."""
        content = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        return replace(self, files=content)


def choose(settings: Settings, asked: str | None, *, prepare: Callable[[], None]) -> Model:
    """Find, verify and try out the model to answer with.

    Parameters
    ----------
    asked
        ``"seed"``, the number of a version that was deployed, or a folder; the version that is
        served if None.
    prepare
        Called before the Bento store is opened.

    Raises
    ------
    ArtefactError
        If it is damaged, does not answer as recorded, or cannot be had: nothing stands in for it.
    NotFoundError
        If there is no such version.
    """
    version, folder, fingerprint = _found(settings, asked, prepare)
    predictor = Predictor.load(folder, version=version, alarm_recall=settings.alarm_recall)
    predictor.check_smoke()
    if fingerprint is not None and predictor.fingerprint != fingerprint:
        raise ArtefactError("The stored version is not the one that was deployed.")
    name = version or f"folder:{predictor.fingerprint[:12]}"
    return Model(name, predictor.fingerprint, settings.alarm_recall, folder.resolve())


@lru_cache(maxsize=1)
def opened(model: Model) -> Predictor:
    """Load the model in this process, once.

    Raises
    ------
    ArtefactError
        If what is here is not what was asked for.
    """
    if model.files is None:
        return _same(model, model.folder)
    with tempfile.TemporaryDirectory(prefix="student-success-model-") as name:
        for file, content in model.files.items():
            (Path(name) / file).write_bytes(content)
        return _same(model, Path(name))


def _same(model: Model, folder: Path) -> Predictor:
    predictor = Predictor.load(folder, version=model.version, alarm_recall=model.alarm_recall)
    if predictor.fingerprint != model.fingerprint:
        raise ArtefactError("The model is not the one this run was begun with.")
    return predictor


def _found(
    settings: Settings, asked: str | None, prepare: Callable[[], None]
) -> tuple[str, Path, str | None]:
    """Return version ("" of a folder), folder, and the fingerprint of a deployed one."""
    if asked == SEED:
        return SEED, settings.seed_model_path, None
    if asked is not None and not asked.isdecimal():
        folder = Path(asked)
        # Of a whole MLflow model, the part that serves.
        return "", folder / "serving" if (folder / "serving").is_dir() else folder, None
    local = Path(settings.database.removeprefix("sqlite:///"))
    if settings.database.startswith("sqlite:///") and not local.exists():
        if asked is not None:
            raise NotFoundError(f"Version {asked} was never deployed here.")
        return SEED, settings.seed_model_path, None
    prepare()
    return _deployed(settings, asked)


def _deployed(settings: Settings, asked: str | None) -> tuple[str, Path, str | None]:
    from student_success.registry import bento_store, versions
    from student_success.storage.deployments import Deployments
    from student_success.storage.engine import connect
    from student_success.storage.migrate import migrate

    migrate(settings.database, state_dir=settings.state_dir)
    deployments = Deployments(connect(settings.database))
    if asked is None:
        deployment = deployments.current()
    else:
        rows = (row for row in deployments.page() if row.to_version == asked)
        deployment = next(rows, None)
        if deployment is None:
            raise NotFoundError(f"Version {asked} was never deployed here.")
    if deployment is None or deployment.to_version == SEED:
        return SEED, settings.seed_model_path, None
    if bento_store.stored(settings, deployment.to_version) is None:
        asyncio.run(
            versions.ensure_stored(
                settings, deployment.to_version, fingerprint=deployment.fingerprint
            )
        )
    return (
        deployment.to_version,
        versions.folder_of(settings, deployment.to_version),
        deployment.fingerprint,
    )
