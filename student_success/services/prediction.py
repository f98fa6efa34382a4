"""From a pupil to a committed prediction: the hot path, and its bulk form.

The answer, the row and the metric come from one snapshot of the served version. Where it is so set,
a prediction that cannot be committed is answered all the same, and marked; not under a key, whose
caller asked for exactly one row.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel

from student_success.core import metrics
from student_success.core.clock import iso, now_us
from student_success.core.errors import HistoryUnavailableError, ModelUnavailableError
from student_success.core.identifiers import random_hex
from student_success.core.memory import give_back_soon
from student_success.core.metrics_buffer import tally
from student_success.domain.decision import INTERVAL_LEVEL, PASS_GRADE
from student_success.domain.idempotency import Asked, IdempotencyKey
from student_success.domain.schemas import BatchAnswer, Interval, PredictionAnswer
from student_success.domain.students import StudentFeatures
from student_success.lifecycle.champion import Champion, Served
from student_success.model.prediction import Prediction
from student_success.storage.inference_log.group_commit import MAX_ROWS_IN_LOOP, Row
from student_success.storage.inference_log.history import History

_REFERENCE = {"reference"}
_THRESHOLD = float(PASS_GRADE)
_set = object.__setattr__  # The models are frozen.
LARGE_BATCH = 1000
"""Pupils; what a larger batch took is given back to the system when it is answered."""


class Answered(NamedTuple):
    """An answer as JSON, and the version that gave it; None where it was given before."""

    body: bytes
    model_version: str | None


class Inference:
    """Predict with the served version, and answer only once the history has it.

    Parameters
    ----------
    answer_unlogged
        Whether to answer, marked as unlogged, what the history cannot take now.
    """

    def __init__(
        self, champion: Champion, history: History, *, answer_unlogged: bool = False
    ) -> None:
        self._champion = champion
        self._history = history
        self._answer_unlogged = answer_unlogged

    def serving(self) -> Served:
        """Return the version that is served now.

        Raises
        ------
        ModelUnavailableError
            If no verified model is loaded.
        """
        if self._champion.served is None:
            raise ModelUnavailableError("No verified model is loaded.")
        return self._champion.served

    async def predict(
        self,
        student: StudentFeatures,
        *,
        session_id: str,
        idempotency: Asked | None = None,
    ) -> Answered:
        """Predict one pupil's grade and commit it to the history.

        Parameters
        ----------
        session_id
            Session to file it under.
        idempotency
            What was asked under a key, where the caller gave one.

        Returns
        -------
        Answered
            A `PredictionAnswer` as JSON.
        """
        predictor = self.serving().predictor
        started = time.perf_counter()
        prediction = predictor.predict(student)
        tally.observe(metrics.inference_duration_seconds, time.perf_counter() - started)
        now = now_us()
        answer, row = make_answer(student, prediction, predictor.version, session_id, now)
        body = answer.__pydantic_serializer__.to_json(answer)
        key = _key("predict", idempotency, session_id, body)
        kept = await self._keep((row,), Answered(body, predictor.version), key=key)
        if kept.body is body:
            _count(prediction, predictor.version)
        return kept

    async def predict_batch(
        self,
        students: Sequence[StudentFeatures],
        *,
        session_id: str,
        idempotency: Asked | None = None,
    ) -> Answered:
        """Predict many pupils' grades, all in one commit; a `BatchAnswer` as JSON."""
        predictor = self.serving().predictor
        version = predictor.version

        def compute() -> tuple[bytes, list[Row], list[Prediction]]:
            predictions = predictor.predict_many(students)
            now = now_us()
            made = [
                make_answer(student, prediction, version, session_id, now)
                for student, prediction in zip(students, predictions, strict=True)
            ]
            batch = BatchAnswer.model_construct(predictions=[answer for answer, _ in made])
            return (
                batch.__pydantic_serializer__.to_json(batch),
                [row for _, row in made],
                predictions,
            )

        # A small batch takes less time than handing it to a thread and back.
        small = len(students) <= MAX_ROWS_IN_LOOP
        body, rows, predictions = compute() if small else await asyncio.to_thread(compute)
        key = _key("predict_batch", idempotency, session_id, body)
        try:
            kept = await self._keep(rows, Answered(body, version), key=key)
        finally:
            if len(students) >= LARGE_BATCH:
                give_back_soon()
        if kept.body is body:
            for prediction in predictions:
                _count(prediction, version)
        return kept

    async def _keep(
        self, rows: Sequence[Row], answer: Answered, *, key: IdempotencyKey | None
    ) -> Answered:
        """Commit the rows of an answer; return what to say: it, an earlier one, or it unlogged."""
        try:
            earlier = await self._history.append(rows, key=key)
        except HistoryUnavailableError:
            if not self._answer_unlogged or key is not None:
                raise
            return Answered(_unlogged(answer.body), answer.model_version)
        return answer if earlier is None else Answered(earlier, None)


def _unlogged(body: bytes) -> bytes:
    """Mark an answer that the history does not have, at the end of its JSON object."""
    return body[:-1] + b',"unlogged":true}'


def _key(route: str, asked: Asked | None, session_id: str, answer: bytes) -> IdempotencyKey | None:
    if asked is None:
        return None
    return IdempotencyKey.of(
        asked.key,
        route=route,
        caller=asked.caller,
        body=asked.body,
        asked_session=asked.session,
        session_id=session_id,
        answer=answer,
    )


def new_prediction_id(now: int) -> str:
    """Make an id of 32 hexadecimal digits; ids sort by time, so that their index stays compact."""
    return f"{now // 1000:012x}{random_hex()[:20]}"


def make_answer(
    student: StudentFeatures, prediction: Prediction, version: str, session_id: str, now: int
) -> tuple[PredictionAnswer, Row]:
    """Say a prediction, and the row that records it: one cannot differ from the other."""
    prediction_id = new_prediction_id(now)
    answer = _ready(
        PredictionAnswer,
        {
            "prediction_id": prediction_id,
            "session_id": session_id,
            "predicted_G3": prediction.predicted_G3,
            "decision": prediction.decision,
            "threshold": _THRESHOLD,
            "pass_probability": prediction.pass_probability,
            "interval": _interval(prediction.low, prediction.high),
            "horizon": prediction.horizon,
            "at_risk": prediction.at_risk,
            "model_version": version,
            "mlflow_model_version": version,
            "timestamp": iso(now),
        },
    )
    row = (
        prediction_id,
        session_id,
        now,
        student.__pydantic_serializer__.to_json(student, exclude=_REFERENCE).decode(),
        student.reference,
        prediction.predicted_G3,
        prediction.decision.value,
        prediction.pass_probability,
        prediction.low,
        prediction.high,
        prediction.horizon.value,
        prediction.at_risk,
        version,
    )
    return answer, row


@lru_cache(maxsize=512)
def _interval(low: int, high: int) -> Interval:
    """Return the interval; there are 231 of them, and none is ever changed."""
    return _ready(Interval, {"low": low, "high": high, "level": INTERVAL_LEVEL})


Answer = TypeVar("Answer", bound=BaseModel)


def _ready(model: type[Answer], values: dict[str, Any]) -> Answer:
    """Make a model of values known to be right.

    What pydantic's own `model_construct` does for a model without aliases, defaults or private
    attributes, in a tenth of its time.
    """
    made = model.__new__(model)
    _set(made, "__dict__", values)
    _set(made, "__pydantic_fields_set__", set(values))
    _set(made, "__pydantic_extra__", None)
    _set(made, "__pydantic_private__", None)
    return made


def _count(prediction: Prediction, version: str) -> None:
    tally.count(_predictions(prediction.decision, prediction.horizon, version))
    tally.observe(metrics.predicted_grade, prediction.predicted_G3)


@lru_cache(maxsize=256)
def _predictions(decision: str, horizon: str, version: str) -> Any:
    """Keep the series: looking it up costs as much as counting."""
    return metrics.predictions_total.labels(decision, horizon, version)
