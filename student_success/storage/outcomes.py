"""The grades really obtained: recorded once for each pupil, beside what was predicted.

A pupil is known by session and reference, and all predictions made of one pupil, however much of
the year was known then, get the same outcome. What is recorded is never changed by another request.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Engine, Select, insert, select

from student_success.core.clock import now_us
from student_success.domain.schemas.history import Outcome, OutcomesAnswer, RejectedOutcome
from student_success.storage.engine import one_writer, writing
from student_success.storage.tables import inference_logs, outcomes

_AT_ONCE = 500
"""Outcomes in one transaction: predictions get their turn in between."""
_CHUNK = 1000
"""Values in one condition; every database takes this many."""

UNKNOWN = "not_found", "There is no such prediction."
REPEATED = "repeated", "This outcome is recorded already."
CONFLICT = "conflict", "Another grade is recorded for this pupil."

Pupil = tuple[str, str]
"""Session and reference; or a prediction without a reference, by its id and nothing."""


@dataclass(slots=True)
class _Known:
    """Predictions that outcomes may be about.

    Attributes
    ----------
    sessions
        Session of each prediction.
    pupils
        Pupil of each prediction, and the predictions of each pupil.
    grades
        Outcome of each prediction that has one.
    """

    sessions: dict[str, str] = field(default_factory=dict)
    pupil_of: dict[str, Pupil] = field(default_factory=dict)
    of_pupil: dict[Pupil, list[str]] = field(default_factory=dict)
    grades: dict[str, int] = field(default_factory=dict)

    def add(self, rows: Iterable[Any]) -> None:
        for row in rows:
            if row.prediction_id in self.sessions:
                continue
            pupil = (row.session_id, row.reference) if row.reference else (row.prediction_id, "")
            self.sessions[row.prediction_id] = row.session_id
            self.pupil_of[row.prediction_id] = pupil
            self.of_pupil.setdefault(pupil, []).append(row.prediction_id)
            if row.actual_g3 is not None:
                self.grades[row.prediction_id] = row.actual_g3


class Outcomes:
    """Record outcomes.

    Parameters
    ----------
    engine
        Database of the history.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def record(self, items: Sequence[Outcome]) -> OutcomesAnswer:
        """Record outcomes, as if they had been sent one after another.

        Returns
        -------
        OutcomesAnswer
            How many were recorded, and why each of the others was not.

        Raises
        ------
        DatabaseUnavailableError
            If the database cannot be written. What was recorded before stays; sent again, it is
            refused as repeated and the rest is recorded.
        """
        rejected: list[RejectedOutcome] = []
        for start in range(0, len(items), _AT_ONCE):
            rejected += self._record(items[start : start + _AT_ONCE], first=start)
        return OutcomesAnswer(accepted=len(items) - len(rejected), rejected=rejected)

    def _record(self, items: Sequence[Outcome], *, first: int) -> list[RejectedOutcome]:
        """Record some outcomes in one transaction; return those refused, numbered from `first`."""
        rejected: list[RejectedOutcome] = []
        with writing(self._engine) as connection:
            # Also against an erasure: an outcome goes with its prediction, or waits for its end.
            one_writer(connection, outcomes)
            known = _look_up(connection, items)
            made: list[dict[str, Any]] = []
            now = now_us()
            for index, item in enumerate(items, first):
                named, problem = _judge(item, known)
                if problem is not None:
                    code, message = problem
                    rejected.append(RejectedOutcome(index=index, error=code, message=message))
                    continue
                for prediction_id in named:
                    known.grades[prediction_id] = item.actual_G3
                    made.append(
                        {
                            "prediction_id": prediction_id,
                            "session_id": known.sessions[prediction_id],
                            "actual_g3": item.actual_G3,
                            "created_us": now,
                        }
                    )
            if made:
                connection.execute(insert(outcomes), made)
        return rejected


def _judge(item: Outcome, known: _Known) -> tuple[list[str], tuple[str, str] | None]:
    """Return the predictions that get this outcome, or why none does."""
    if item.prediction_id is not None:
        pupil = known.pupil_of.get(item.prediction_id)
        named = [item.prediction_id]
    else:
        pupil = (item.session_id or "", item.reference or "")
        named = known.of_pupil.get(pupil, [])
    if pupil is None or not named:
        return [], UNKNOWN
    predictions = known.of_pupil[pupil]
    if any(known.grades.get(one, item.actual_G3) != item.actual_G3 for one in predictions):
        return [], CONFLICT
    if all(one in known.grades for one in named):
        return [], REPEATED
    return [one for one in predictions if one not in known.grades], None


def _look_up(connection: Connection, items: Sequence[Outcome]) -> _Known:
    """Find every prediction of every pupil that the items name."""
    known = _Known()
    named = [item.prediction_id for item in items if item.prediction_id is not None]
    for part in _chunks(named):
        known.add(connection.execute(_rows().where(inference_logs.c.prediction_id.in_(part))))
    pupils = [pupil for pupil in known.of_pupil if pupil[1]]
    pupils += [
        (item.session_id, item.reference) for item in items if item.session_id and item.reference
    ]
    references: dict[str, set[str]] = {}
    for session_id, reference in pupils:
        references.setdefault(session_id, set()).add(reference)
    for session_id, wanted in references.items():
        for part in _chunks(sorted(wanted)):
            known.add(
                connection.execute(
                    _rows().where(
                        inference_logs.c.session_id == session_id,
                        inference_logs.c.reference.in_(part),
                    )
                )
            )
    return known


def _rows() -> Select[Any]:
    return select(
        inference_logs.c.prediction_id,
        inference_logs.c.session_id,
        inference_logs.c.reference,
        outcomes.c.actual_g3,
    ).outerjoin(outcomes, outcomes.c.prediction_id == inference_logs.c.prediction_id)


def _chunks(values: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(values)
    while part := list(islice(rest, _CHUNK)):
        yield part
