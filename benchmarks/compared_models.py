"""The models that the other servers serve, fitted on the sample."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from student_success.core.configuration.settings import Settings
from student_success.domain.students import CATEGORICAL, FEATURE_NAMES, NUMERIC, TARGET
from training import train
from training.data.dataset import SAMPLE, read

ORIGINAL_TREES = 1000


def fit_models(folder: Path) -> None:
    """Fit and write `champion.joblib`, `champion-mlflow/` and `original.joblib` into a folder."""
    import mlflow.sklearn
    import skops.io

    data = read(SAMPLE)
    candidate = train.run(Settings(), family="boosting", budget_seconds=5, dataset=data)
    joblib.dump(candidate.pipeline, folder / "champion.joblib")
    trusted = skops.io.get_untrusted_types(data=skops.io.dumps(candidate.pipeline))
    mlflow.sklearn.save_model(
        candidate.pipeline,
        folder / "champion-mlflow",
        skops_trusted_types=trusted,
        pip_requirements=["scikit-learn"],
    )
    original = Pipeline(
        [
            (
                "columns",
                ColumnTransformer(
                    [
                        ("numbers", StandardScaler(), list(NUMERIC)),
                        ("categories", OneHotEncoder(handle_unknown="ignore"), list(CATEGORICAL)),
                    ]
                ),
            ),
            (
                "forest",
                RandomForestRegressor(n_estimators=ORIGINAL_TREES, n_jobs=-1, random_state=0),
            ),
        ]
    )
    original.fit(data.frame[list(FEATURE_NAMES)], data.frame[TARGET].to_numpy(dtype=np.float64))
    joblib.dump(original, folder / "original.joblib")
