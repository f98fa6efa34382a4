"""Explanations of the served version, made ready beside it."""

from __future__ import annotations

import asyncio
import dataclasses

from student_success.core.errors import ModelUnavailableError
from student_success.domain.decision import INTERVAL_LEVEL
from student_success.domain.schemas import ExplainAnswer
from student_success.domain.students import StudentFeatures
from student_success.lifecycle.champion import Champion
from student_success.model.explanation import Explainer
from student_success.model.predictor import Predictor


class Explanations:
    """Explain answers of the version served; its explainer is made when it is first asked for.

    Making one takes about a second and some memory that a service nobody asks for reasons need not
    carry; an explanation then takes milliseconds. All of it runs in a thread.
    """

    def __init__(self, champion: Champion) -> None:
        self._champion = champion
        self._making = asyncio.Lock()
        self._ready: tuple[Predictor, Explainer] | None = None

    async def explain(self, student: StudentFeatures) -> ExplainAnswer:
        """Explain one pupil's prediction; nothing is kept.

        Raises
        ------
        ModelUnavailableError
            If no verified model is loaded.
        """
        served = self._champion.served
        if served is None:
            raise ModelUnavailableError("No verified model is loaded.")
        explainer = await self._explainer(served.predictor)
        return await asyncio.to_thread(_explain, served.predictor, explainer, student)

    async def _explainer(self, predictor: Predictor) -> Explainer:
        ready = self._ready
        if ready is not None and ready[0] is predictor:
            return ready[1]
        async with self._making:
            ready = self._ready
            if ready is None or ready[0] is not predictor:
                ready = predictor, await asyncio.to_thread(Explainer(predictor).warm)
                self._ready = ready
            return ready[1]


def _explain(predictor: Predictor, explainer: Explainer, student: StudentFeatures) -> ExplainAnswer:
    said = predictor.predict(student)
    return ExplainAnswer.model_validate(
        {
            "decision": said.decision,
            "pass_probability": said.pass_probability,
            "interval": {"low": said.low, "high": said.high, "level": INTERVAL_LEVEL},
            "horizon": said.horizon,
            **dataclasses.asdict(explainer.explain(student)),
        }
    )
