"""Predict for one pupil or a batch, and commit the predictions to the history before answering.

The response, the row and the metric come from one snapshot of the served version. With the setting
`ANSWER_UNLOGGED`, a prediction that cannot be committed is answered and marked as unlogged, unless
the request has an idempotency key, which promises exactly one row.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from prometheus_client import Histogram
from pydantic import BaseModel

from student_success.core import metrics
from student_success.core.clock import iso, now_us
from student_success.core.errors import DatabaseUnavailableError
from student_success.core.identifiers import time_ordered_hex
from student_success.core.memory import release_memory_soon
from student_success.core.metrics_buffer import metrics_buffer
from student_success.domain.idempotency import IdempotencyKey, IdempotentRequest
from student_success.domain.schemas.prediction import (
    BatchAnswer,
    BatchWarning,
    Interval,
    PredictionAnswer,
)
from student_success.domain.students import GRADE_MAX, GRADE_MIN, PREDICTED, StudentFeatures
from student_success.lifecycle.champion import Champion
from student_success.model.prediction import Prediction
from student_success.model.predictor import Predictor
from student_success.storage.inference_log.group_commit import MAX_ROWS_ON_LOOP
from student_success.storage.inference_log.history import History
from student_success.storage.inference_log.prediction_rows import PredictionRow, row_of

_set = object.__setattr__  # The models are frozen.
predicted_grade = Histogram(
    "student_success_predicted_grade",
    f"Predicted final grades, {GRADE_MIN:g} to {GRADE_MAX:g}.",
    # Ten steps over the scale.
    buckets=tuple(round(GRADE_MIN + (GRADE_MAX - GRADE_MIN) * n / 10, 4) for n in range(11)),
)
LARGE_BATCH = 1000
"""Number of pupils; after a larger batch, free memory is returned to the operating system."""


class Answered(NamedTuple):
    """A response as JSON, and the version that computed it; None if an earlier one is repeated."""

    body: bytes
    model_version: str | None


class PredictionService:
    """Predict with the served version and answer once the history has committed the prediction.

    Parameters
    ----------
    answer_unlogged
        Whether to answer, marked as unlogged, if the history is unavailable.
    span
        Makes a context that records a step of a prediction in a trace; by default none does.
    """

    def __init__(
        self,
        *,
        champion: Champion,
        history: History,
        answer_unlogged: bool = False,
        span: Callable[[str], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._champion = champion
        self._history = history
        self._answer_unlogged = answer_unlogged
        self._span = span

    async def predict(
        self,
        student: StudentFeatures,
        *,
        session_id: str,
        idempotency: IdempotentRequest | None = None,
    ) -> Answered:
        """Predict one pupil's grade and commit it to the history.

        Parameters
        ----------
        session_id
            Session of the row.
        idempotency
            The request's idempotency key, if it has one.

        Returns
        -------
        Answered
            A `PredictionAnswer` as JSON.
        """
        predictor = self._champion.serving().predictor
        started = time.perf_counter()
        with self._span("model.predict"):
            prediction = predictor.predict(student)
        metrics_buffer.observe(metrics.inference_duration_seconds, time.perf_counter() - started)
        now = now_us()
        answer, row = make_answer(student, prediction, predictor, session_id=session_id, now=now)
        body = answer.__pydantic_serializer__.to_json(answer)
        key = idempotency and idempotency.hashed("predict", session_id=session_id, answer=body)
        answered = await self._commit((row,), Answered(body, predictor.version), key=key)
        if answered.body is body:
            _count(answer)
        return answered

    async def predict_batch(
        self,
        students: Sequence[StudentFeatures],
        *,
        session_id: str,
        idempotency: IdempotentRequest | None = None,
    ) -> Answered:
        """Predict many pupils' grades and commit them together; return a `BatchAnswer` as JSON."""
        predictor = self._champion.serving().predictor
        version = predictor.version

        def compute() -> tuple[bytes, list[PredictionRow], list[PredictionAnswer]]:
            predictions = predictor.predict_many(students)
            now = now_us()
            answers_rows = [
                make_answer(student, prediction, predictor, session_id=session_id, now=now)
                for student, prediction in zip(students, predictions, strict=True)
            ]
            answers = [answer for answer, _ in answers_rows]
            warnings = repeated_reference_warnings([student.reference for student in students])
            batch = _construct(
                BatchAnswer, {"predictions": answers} | ({"warnings": warnings} if warnings else {})
            )
            return (
                batch.__pydantic_serializer__.to_json(batch),
                [row for _, row in answers_rows],
                answers,
            )

        # Computing a small batch takes less time than a switch to a thread and back.
        small = len(students) <= MAX_ROWS_ON_LOOP
        with self._span("model.predict"):
            body, rows, answers = compute() if small else await asyncio.to_thread(compute)
        route = "predict_batch"
        key = idempotency and idempotency.hashed(route, session_id=session_id, answer=body)
        try:
            answered = await self._commit(rows, Answered(body, version), key=key)
        finally:
            if len(students) >= LARGE_BATCH:
                release_memory_soon()
        if answered.body is body:
            for answer in answers:
                _count(answer)
        return answered

    async def _commit(
        self, rows: Sequence[PredictionRow], answer: Answered, *, key: IdempotencyKey | None
    ) -> Answered:
        """Commit rows; return `answer`, the earlier answer of the key, or `answer` as unlogged."""
        try:
            with self._span("history.commit"):
                earlier = await self._history.append(rows, key=key)
        except DatabaseUnavailableError:
            if not self._answer_unlogged or key is not None:
                raise
            return Answered(_unlogged(answer.body), answer.model_version)
        return answer if earlier is None else Answered(earlier, None)


def _unlogged(body: bytes) -> bytes:
    """Add `unlogged` at the end of the JSON object."""
    return body[:-1] + b',"unlogged":true}'


def repeated_reference_warnings(references: Sequence[str | None]) -> list[BatchWarning]:
    """Return a warning for each reference that an earlier pupil of the batch has."""
    first: dict[str, int] = {}
    return [
        BatchWarning(
            index=index,
            code="reference_repeated",
            message=f"The pupil at index {first[reference]} has the same reference. Record the "
            "final grades of both by prediction_id.",
        )
        for index, reference in enumerate(references)
        if reference and first.setdefault(reference, index) != index
    ]


def make_answer(
    student: StudentFeatures,
    prediction: Prediction,
    predictor: Predictor,
    *,
    session_id: str,
    now: int,
) -> tuple[PredictionAnswer, PredictionRow]:
    """Return a prediction as a response and as the row that records it.

    Parameters
    ----------
    now
        Microseconds since 1970.
    """
    version = predictor.version
    prediction_id = time_ordered_hex(now)
    values = {
        "prediction_id": prediction_id,
        "session_id": session_id,
        PREDICTED: prediction.grade,
        "decision": prediction.decision,
        "threshold": predictor.threshold,
        "pass_probability": prediction.pass_probability,
        "interval": _interval(prediction.low, prediction.high, predictor.interval_level),
        "horizon": prediction.horizon,
        "at_risk": prediction.at_risk,
        "model_version": version,
        "mlflow_model_version": version,
        "timestamp": iso(now),
    }
    if predictor.synthetic:
        values["synthetic_model"] = True
    if unusual := predictor.training_range.unusual(student):
        values["unusual"] = unusual
    answer = _construct(PredictionAnswer, values)
    row = row_of(
        student,
        prediction,
        prediction_id=prediction_id,
        session_id=session_id,
        now=now,
        interval_level=predictor.interval_level,
        model_version=version,
    )
    return answer, row


@lru_cache(maxsize=512)
def _interval(low: float, high: float, level: float) -> Interval:
    """Return an interval; a model has few different ones, and none is ever modified."""
    return _construct(Interval, {"low": low, "high": high, "level": level})


Answer = TypeVar("Answer", bound=BaseModel)


def _construct(model: type[Answer], values: dict[str, Any]) -> Answer:
    """Create a pydantic model from valid values, without validation.

    Does the same as pydantic's `model_construct` for a model without aliases or private attributes,
    in a tenth of the time; a field that is left out is not written.
    """
    instance = model.__new__(model)
    _set(instance, "__dict__", values)
    _set(instance, "__pydantic_fields_set__", set(values))
    _set(instance, "__pydantic_extra__", None)
    _set(instance, "__pydantic_private__", None)
    return instance


def _count(answer: PredictionAnswer) -> None:
    values = answer.__dict__
    series = _predictions(values["decision"], values["horizon"], values["model_version"])
    metrics_buffer.count(series)
    metrics_buffer.observe(predicted_grade, values[PREDICTED])
    for feature in values.get("unusual", ()):
        metrics_buffer.count(_unusual_values(feature))


# Both are cached, because a look-up costs more than counting.
@lru_cache(maxsize=256)
def _predictions(decision: str, horizon: str, version: str) -> Any:
    return metrics.predictions_total.labels(decision, horizon, version)


@lru_cache(maxsize=256)
def _unusual_values(feature: str) -> Any:
    return metrics.unusual_values_total.labels(feature)
