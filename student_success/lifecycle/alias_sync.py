"""Keep MLflow's alias and the served version equal.

The table of deployments decides what is served. If somebody moved the alias in MLflow, its version
goes through the same checks as a promotion, also before anything was deployed; if they refuse it,
the alias is moved back.
"""

from __future__ import annotations

import logging

from student_success.core.configuration.settings import Settings
from student_success.core.errors import (
    ArtefactError,
    BusyError,
    ConflictError,
    NotFoundError,
    RegistryUnavailableError,
)
from student_success.domain.decision import SEED
from student_success.domain.schemas.lifecycle import PromoteRequest
from student_success.lifecycle import promotion
from student_success.registry import mlflow_client
from student_success.storage.deployments import Deployments, version_of
from student_success.storage.locks import Operation, exclusive

logger = logging.getLogger(__name__)

LOCK_TIMEOUT_SECONDS = 20.0


def wanted_alias(deployments: Deployments) -> str | None:
    """Return the version the alias must point to; None for the seed, which MLflow does not know."""
    version = version_of(deployments.current())
    return None if version == SEED else version


def align_alias(settings: Settings, deployments: Deployments, *, may_adopt: bool) -> None:
    """Make MLflow's alias and the served version equal.

    If MLflow does not answer, nothing changes and the next call does the rest.

    Parameters
    ----------
    may_adopt
        Whether a version that somebody moved the alias to may be deployed; False while a promotion
        decides what is served.
    """
    # A lock of its own, so that a promotion does not wait until the alias is moved.
    lock = exclusive(
        Operation.ALIAS,
        engine=deployments.engine,
        state_dir=settings.state_dir,
        timeout=LOCK_TIMEOUT_SECONDS,
    )
    try:
        with lock:
            _align(settings, deployments, may_adopt=may_adopt)
    except (RegistryUnavailableError, BusyError) as error:
        logger.warning("alias_not_aligned", extra={"reason": error.message})


def _align(settings: Settings, deployments: Deployments, *, may_adopt: bool) -> None:
    alias = mlflow_client.alias(settings)
    known = deployments.alias_state(settings.model_alias)
    expected = (known.version, known.moving_to, wanted_alias(deployments))
    if may_adopt and alias is not None and alias not in expected:
        _adopt(settings, deployments, alias)
    wanted = wanted_alias(deployments)
    if wanted != alias:
        # Recorded before the alias is moved: if this process ends in between, or MLflow moves the
        # alias without answering, it must not look as if somebody had moved it.
        deployments.set_alias_moving_to(settings.model_alias, wanted)
        mlflow_client.move_alias(settings, wanted)
    if wanted != known.version:
        deployments.set_alias_version(settings.model_alias, wanted)


def _adopt(settings: Settings, deployments: Deployments, version: str) -> None:
    """Deploy the version that somebody moved the alias to, if it passes the checks."""
    lock = exclusive(
        Operation.DEPLOYMENT,
        Operation.TRAINING,
        engine=deployments.engine,
        state_dir=settings.state_dir,
    )
    try:
        with lock:
            request = PromoteRequest(version=int(version), reason="alias moved in MLflow")
            promotion.promote(settings, deployments, request, actor="mlflow", action="adopt")
    except BusyError:
        raise
    except (ArtefactError, NotFoundError, ConflictError) as error:
        logger.error("alias_refused", extra={"model_version": version, "conditions": error.details})
