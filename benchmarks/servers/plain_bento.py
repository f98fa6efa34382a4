"""A BentoML service as the tutorial builds it: this project's pipeline, a commit a request."""

from __future__ import annotations

import os
from typing import Any

import bentoml
import joblib
import pandas as pd

from benchmarks.servers.prediction_log import log_prediction


@bentoml.service(name="plain_bento")
class PlainBento:
    """Predict with the scikit-learn pipeline and log each prediction."""

    def __init__(self) -> None:
        self.model = joblib.load(f"{os.environ['BENCH_FOLDER']}/champion.joblib")

    @bentoml.api
    def predict(self, student: dict[str, Any], /) -> dict[str, float]:
        """Predict one pupil with a DataFrame."""
        grade = float(self.model.predict(pd.DataFrame([student]))[0])
        log_prediction(student, grade)
        return {"predicted_G3": grade}
