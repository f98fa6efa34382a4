"""Versions of the model on this machine: whether one is stored, fetch, check and load it.

A version is named by its MLflow number as text, or ``"seed"``. The fingerprint is the SHA-256 of
its manifest, from the row of the deployment.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from student_success.core.configuration.settings import Settings
from student_success.core.errors import ArtefactError, StudentSuccessError
from student_success.domain import recorded_profile
from student_success.domain.decision import SEED
from student_success.model.artefact import verify
from student_success.model.predictor import Predictor
from student_success.registry import bento_store, mlflow_client, mlflow_http
from student_success.registry.checksums import RegisteredVersion
from student_success.registry.child_process import run_command

logger = logging.getLogger(__name__)

CHECK_SECONDS = 60.0
CHECK_MEMORY_MB = 1024

Download = Callable[[Settings, int], AbstractContextManager[tuple[RegisteredVersion, Path]]]


def folder_of(settings: Settings, version: str) -> Path:
    """Return the serving folder of a version on this machine.

    Raises
    ------
    ArtefactError
        If the Bento store does not hold it.
    """
    if version == SEED:
        return settings.seed_model_path
    folder = bento_store.stored(settings, version)
    if folder is None:
        raise ArtefactError(f"Version {version} is not in the Bento store.")
    return folder


def has_seed(settings: Settings) -> bool:
    """Return whether the seed model is for the profile of this process."""
    return recorded_profile.fits(settings.seed_model_path)


def champion_folder(settings: Settings, version: str) -> Path | None:
    """Return the serving folder of the version served, or None if nothing can be served yet."""
    return None if version == SEED and not has_seed(settings) else folder_of(settings, version)


def is_stored(settings: Settings, version: str, *, fingerprint: str) -> bool:
    """Tell whether this machine holds an undamaged copy of a version.

    The seed model is part of the program, so that it is always there.
    """
    if version == SEED:
        return True
    try:
        return verify(folder_of(settings, version)) == fingerprint
    except ArtefactError:
        return False


def load(settings: Settings, version: str, *, fingerprint: str | None = None) -> Predictor:
    """Load a stored version and check its files and its recorded answers.

    Parameters
    ----------
    fingerprint
        Fingerprint that the version must have, if it is known. It does not apply to the seed model,
        which may have changed with the program.

    Raises
    ------
    ProfileMismatchError
        If the version is for another profile.
    ArtefactError
        If the version is missing or damaged, or is another one.
    """
    folder = folder_of(settings, version)
    recorded_profile.check_version(folder, version)
    predictor = Predictor.load(folder, version=version, alarm_recall=settings.alarm_recall)
    if version != SEED and fingerprint not in (None, predictor.fingerprint):
        raise ArtefactError(f"The stored version {version} is not the one that was recorded.")
    predictor.check_smoke()
    return predictor


def fetch(
    settings: Settings,
    version: str,
    *,
    fingerprint: str,
    download: Download = mlflow_client.downloaded,
) -> None:
    """Download a version from the registry into the Bento store of this machine.

    Raises
    ------
    NotFoundError, RegistryUnavailableError
        If the registry does not have it, or does not answer.
    ArtefactError
        If the files are not those that were recorded.
    """
    with download(settings, int(version)) as (registered, folder):
        if registered.fingerprint != fingerprint:
            raise ArtefactError(f"Version {version} in the registry is not the one deployed.")
        bento_store.keep(settings, registered, folder)


async def ensure_stored(settings: Settings, version: str, *, fingerprint: str) -> None:
    """Fetch a version unless this machine holds it.

    Raises
    ------
    RegistryUnavailableError
        If it cannot be fetched.
    ArtefactError
        If the registry holds another version under its number.
    """
    if await asyncio.to_thread(is_stored, settings, version, fingerprint=fingerprint):
        return
    if not settings.registry_is_local:
        try:
            await asyncio.to_thread(
                fetch,
                settings,
                version,
                fingerprint=fingerprint,
                download=mlflow_http.downloaded,
            )
            return
        except StudentSuccessError as error:
            # MLflow's library can also read stores that the server does not proxy.
            logger.warning("http_download_failed", extra={"reason": error.message})
    await run_command(settings, "fetch", f"--version={version}", f"--sha256={fingerprint}")


def check_in_child(settings: Settings, folder: Path, version: str) -> None:
    """Check a downloaded version in a child process that may hang, run out of memory or crash.

    Raises
    ------
    ArtefactError
        If the version does not pass `artefact_check.check_artefact`.
    """
    check = run_command(
        settings,
        "try",
        f"--folder={folder}",
        f"--version={version}",
        timeout=CHECK_SECONDS,
        memory_mb=CHECK_MEMORY_MB,
        failure=ArtefactError,
    )
    asyncio.run(check)
