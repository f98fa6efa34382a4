"""Explain predictions of the served version."""

from __future__ import annotations

import asyncio
import dataclasses

from student_success.core.errors import ArtefactError, ModelUnavailableError
from student_success.domain.schemas.base import wire_names
from student_success.domain.schemas.prediction import ExplainAnswer
from student_success.domain.students import StudentFeatures
from student_success.lifecycle.champion import Champion
from student_success.model.explanation import Explainer
from student_success.model.predictor import Predictor


class ExplanationService:
    """Explain predictions; the explainer of a version is created at its first explanation.

    Creating an explainer takes about a second and memory that a service without explanations does
    not need; an explanation then takes milliseconds. Both run in a thread.
    """

    def __init__(self, champion: Champion) -> None:
        self._champion = champion
        self._creating = asyncio.Lock()
        self._current: tuple[Predictor, Explainer] | None = None

    async def explain(self, student: StudentFeatures) -> ExplainAnswer:
        """Explain the prediction for one pupil; nothing is stored.

        Raises
        ------
        ModelUnavailableError
            If no verified model is loaded, or its files were removed and are being fetched again.
        """
        predictor = self._champion.serving().predictor
        try:
            explainer = await self._explainer_of(predictor)
        except ArtefactError as error:
            raise ModelUnavailableError(
                "The files of the served version are not on this machine; they are being fetched "
                "again. Predictions go on."
            ) from error
        return await asyncio.to_thread(_explain, predictor, explainer, student)

    async def _explainer_of(self, predictor: Predictor) -> Explainer:
        async with self._creating:
            if self._current is None or self._current[0] is not predictor:
                self._current = predictor, await asyncio.to_thread(Explainer, predictor)
            return self._current[1]


def _explain(predictor: Predictor, explainer: Explainer, student: StudentFeatures) -> ExplainAnswer:
    prediction = predictor.predict(student)
    explanation = dataclasses.asdict(explainer.explain(student))
    return ExplainAnswer.model_validate(
        {
            "decision": prediction.decision,
            "pass_probability": prediction.pass_probability,
            "interval": {
                "low": prediction.low,
                "high": prediction.high,
                "level": predictor.interval_level,
            },
            "horizon": prediction.horizon,
            "at_risk": prediction.at_risk,
            "not_finished_probability": predictor.not_finished(student),
            **wire_names(explanation),
            "what_if": [wire_names(item) for item in explanation["what_if"]],
        }
    )
