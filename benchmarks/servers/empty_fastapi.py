"""The limit: a FastAPI route that does nothing."""

from __future__ import annotations

from fastapi import FastAPI

app = FastAPI()


@app.post("/predict")
async def predict() -> dict[str, float]:
    """Answer without looking."""
    return {"predicted_G3": 10.0}
