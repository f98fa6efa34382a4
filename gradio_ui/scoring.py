"""Predict a class list on a thread, so that neither a reload nor an outage ends it in silence."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from gradio_ui.api_client import ApiClient, ApiError
from gradio_ui.files.earlier import EarlierEstimates, recorded_estimates
from gradio_ui.files.rows import Earlier, ScoredPupil
from student_success.domain.tables.pupils import Pupil

CHUNK_ROWS = 500
_MAX_ATTEMPTS = 8
_CHUNK_TIMEOUT_SECONDS = 60.0
_EXPLANATIONS_AT_ONCE = 2
_MOST_RECORDED = 1000
"""Estimates of the session to compare with; the API returns no more at once."""


@dataclass(slots=True)
class Scoring:
    """The state of a class list that is being predicted.

    Attributes
    ----------
    total
        Number of pupils.
    earlier
        What to compare the estimates with.
    is_waiting
        Whether the API did not answer and is asked again.
    error
        Why the scoring ended without a result.
    finished
        Set when `scored` is complete, or when `error` is.
    """

    total: int
    earlier: EarlierEstimates
    scored: list[ScoredPupil] = field(default_factory=list)
    is_waiting: bool = False
    error: Exception | None = None
    finished: threading.Event = field(default_factory=threading.Event)

    def run(self, api: ApiClient, pupils: Sequence[Pupil], session: str) -> None:
        """Predict the pupils in chunks; an exception is kept in `error`."""
        try:
            for start in range(0, self.total, CHUNK_ROWS):
                self._run_chunk(api, pupils[start : start + CHUNK_ROWS], session)
        except Exception as error:
            self.error = error
        finally:
            self.finished.set()

    def _run_chunk(self, api: ApiClient, pupils: Sequence[Pupil], session: str) -> None:
        # With the same key, a chunk whose answer was lost is not stored twice.
        key = uuid.uuid4().hex
        for attempt in range(_MAX_ATTEMPTS):
            try:
                answer = api.call(
                    "POST",
                    "/predict_batch",
                    body={"students": [pupil.features for pupil in pupils]},
                    session=session,
                    idempotency_key=key,
                    timeout=_CHUNK_TIMEOUT_SECONDS,
                )
            except ApiError as error:
                if not error.is_transient or attempt == _MAX_ATTEMPTS - 1:
                    raise
                self.is_waiting = True
                time.sleep(max(error.retry_after, min(2.0**attempt / 2, 4.0)))
            else:
                self.is_waiting = False
                scored = map(ScoredPupil.from_prediction, pupils, answer["predictions"])
                self.scored += map(self.earlier.beside, scored)
                return


def start_scoring(
    api: ApiClient, pupils: Sequence[Pupil], session: str, saved: Mapping[int, Earlier]
) -> Scoring:
    """Begin to predict a class list, and return its state at once.

    Parameters
    ----------
    saved
        Earlier estimates in the file, by line.
    """
    scoring = Scoring(len(pupils), EarlierEstimates(saved, _recorded(api, session)))
    threading.Thread(target=scoring.run, args=(api, pupils, session), daemon=True).start()
    return scoring


def _recorded(api: ApiClient, session: str) -> dict[str, list[Earlier]]:
    """Read what the session estimated before; without it, nothing is compared."""
    try:
        rows = api.call("GET", "/history", session=session, params={"limit": _MOST_RECORDED})
    except ApiError:
        return {}
    return recorded_estimates(rows)


def explain_pupils(
    api: ApiClient, pupils: Sequence[Pupil]
) -> Iterator[tuple[Pupil, dict[str, Any]]]:
    """Yield each pupil with the answer of ``POST /explain``, which stores nothing.

    Raises
    ------
    ApiError
        If the API refuses one, or does not answer.
    """
    with ThreadPoolExecutor(_EXPLANATIONS_AT_ONCE) as pool:
        answers = pool.map(lambda pupil: api.call("POST", "/explain", body=pupil.features), pupils)
        yield from zip(pupils, answers, strict=True)
