"""A FastAPI route that does nothing: the limit for a Python web framework."""

from __future__ import annotations

from fastapi import FastAPI

app = FastAPI()


@app.post("/predict")
async def predict() -> dict[str, float]:
    """Return a constant."""
    return {"predicted_G3": 10.0}
