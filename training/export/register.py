"""Register a trained candidate in MLflow as a new version of the model."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from grade_models import GradeModel
from student_success.core.configuration.settings import Settings
from student_success.core.paths import ROOT
from student_success.core.state_files import close_to_others, scratch_folder
from student_success.model.artefact import MANIFEST
from student_success.registry import checksums
from student_success.registry.checksums import RegisteredVersion
from student_success.registry.mlflow_client import open_client

if TYPE_CHECKING:
    from mlflow import MlflowClient

ESTIMATORS = ROOT / "grade_models.py"
"""The one module of ours that the fitted estimator needs; it travels with the model."""
MODEL_FOLDER = "model"


@dataclass(frozen=True)
class Candidate:
    """A trained model, ready to be registered.

    Attributes
    ----------
    pipeline
        scikit-learn estimator; its `predict` takes a table of `FEATURE_NAMES` and answers with the
        grade.
    serving
        Folder of the serving artefact.
    metrics
        Flat figures, means over the outer folds, by name.
    test_mae, test_r2
        With every period grade of the data known: means over the outer folds, MAE in grades.
    """

    pipeline: GradeModel
    serving: Path
    best_model: str
    best_params: dict[str, Any]
    metrics: dict[str, float]
    test_mae: float
    test_r2: float
    duration_seconds: float
    dataset: dict[str, Any]
    input_example: pd.DataFrame


def register_candidate(settings: Settings, candidate: Candidate) -> RegisteredVersion:
    """Log the training as an MLflow run and register its model as a new version.

    The alias does not move.

    Raises
    ------
    RegistryUnavailableError
        If MLflow cannot be reached or written.
    """
    with open_client(settings) as client, scratch_folder(settings.state_dir) as scratch:
        folder = scratch / MODEL_FOLDER
        _save(candidate, folder)
        close_to_others(folder)
        checksum = checksums.write(folder)
        fingerprint = checksums.digest(folder / checksums.SERVING / MANIFEST)
        run_id = client.create_run(_experiment_id(client, settings)).info.run_id
        status = "FAILED"
        try:
            _log_run(client, run_id, candidate)
            client.log_artifacts(run_id, str(folder), MODEL_FOLDER)
            _ensure_model(client, settings.model_name)
            created = client.create_model_version(
                settings.model_name,
                source=f"runs:/{run_id}/{MODEL_FOLDER}",
                run_id=run_id,
                tags={
                    "fingerprint": fingerprint,
                    "checksums": checksum,
                    "dataset": str(candidate.dataset["name"]),
                    "dataset_sha256": str(candidate.dataset["sha256"]),
                    "synthetic": str(candidate.dataset["synthetic"]).lower(),
                },
            )
            status = "FINISHED"
        finally:
            client.set_terminated(run_id, status=status)
        return RegisteredVersion(
            version=int(created.version),
            run_id=run_id,
            fingerprint=fingerprint,
            checksums=checksum,
            metrics=candidate.metrics,
        )


def _experiment_id(client: MlflowClient, settings: Settings) -> str:
    name = settings.mlflow_experiment_name
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    root = settings.artefact_root.as_uri() if settings.registry_is_local else None
    return str(client.create_experiment(name, artifact_location=root))


def _ensure_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="Final grade of a pupil")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _log_run(client: MlflowClient, run_id: str, candidate: Candidate) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

    data = candidate.dataset
    now = int(time.time() * 1000)
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, now, 0) for name, value in candidate.metrics.items()],
        params=[
            Param("family", candidate.best_model),
            *(Param(name, str(value)) for name, value in candidate.best_params.items()),
        ],
        tags=[
            RunTag("dataset_sha256", str(data["sha256"])),
            RunTag("synthetic", str(data["synthetic"]).lower()),
        ],
    )
    client.log_inputs(
        run_id,
        datasets=[
            DatasetInput(
                Dataset(
                    name=str(data["name"]),
                    digest=str(data["sha256"])[:36],
                    source_type="local",
                    source=json.dumps({"name": data["name"]}),
                    profile=json.dumps({"rows": data["rows"], "sha256": data["sha256"]}),
                ),
                [InputTag("mlflow.data.context", "training")],
            )
        ],
    )


def _save(candidate: Candidate, folder: Path) -> None:
    import mlflow.sklearn
    import skops.io
    from mlflow.models import infer_signature

    # This process has trained the model, so its types can be trusted. They are recorded so that a
    # loader can refuse any other type.
    trusted = skops.io.get_untrusted_types(data=skops.io.dumps(candidate.pipeline))
    example = candidate.input_example
    # MLflow would refuse 10.5 if its signature said integer, so whole numbers are floats in it.
    example = example.astype(dict.fromkeys(example.select_dtypes("number").columns, float))
    mlflow.sklearn.save_model(
        candidate.pipeline,
        folder,
        serialization_format="skops",
        skops_trusted_types=trusted,
        pip_requirements=["scikit-learn", "scipy", "numpy", "pandas", "skops"],
        code_paths=[str(ESTIMATORS)],
        signature=infer_signature(example, candidate.pipeline.predict(example)),
        input_example=example,
    )
    shutil.copytree(candidate.serving, folder / checksums.SERVING)
