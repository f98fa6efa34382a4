"""The answers of a server with the seed model, which must not depend on how it was installed."""

from __future__ import annotations

import json
from typing import Any

import httpx

from student_success.domain.students import EXAMPLE

PUPILS: list[dict[str, Any]] = [
    EXAMPLE,
    EXAMPLE | {"G1": 4.5, "G2": 7.0, "failures": 2, "absences": 30},
    {name: value for name, value in EXAMPLE.items() if name != "G2"},
    {name: value for name, value in EXAMPLE.items() if name not in ("G1", "G2")},
]
"""Pupils with both earlier grades, with low ones, with the first alone, and with none."""
DIFFERENT_EACH_TIME = {"prediction_id", "session_id", "timestamp"}


def seed_answers(url: str) -> list[str]:
    """Return what predictions, explanations and a batch answer, as text without ids and times."""
    with httpx.Client(base_url=url, timeout=60) as client:
        answers = [
            *(client.post("/predict", json=pupil) for pupil in PUPILS),
            *(client.post("/explain", json=pupil) for pupil in PUPILS),
            client.post("/predict_batch", json={"students": PUPILS}),
        ]
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    return [json.dumps(_lasting(answer.json())) for answer in answers]


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _lasting(v) for k, v in value.items() if k not in DIFFERENT_EACH_TIME}
    return [_lasting(item) for item in value] if isinstance(value, list) else value
