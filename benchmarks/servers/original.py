"""Serve as the replaced application did: FastAPI, a forest of 1,000 trees, a commit a request.

Rebuilt from the description of its pipeline and settings; none of its code is used.
"""

from __future__ import annotations

import os
from typing import Any

import joblib
import pandas as pd
from fastapi import FastAPI

from benchmarks.servers.prediction_log import log_prediction

app = FastAPI()
model = joblib.load(f"{os.environ['BENCH_FOLDER']}/original.joblib")


@app.post("/predict")
def predict(student: dict[str, Any]) -> dict[str, float]:
    """Predict one pupil with a DataFrame."""
    grade = float(model.predict(pd.DataFrame([student]))[0])
    log_prediction(student, grade)
    return {"predicted_G3": grade}
