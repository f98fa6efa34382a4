"""Record the grades that pupils obtained, once for each pupil and school year.

Session, reference and school year identify a pupil. All predictions of a pupil, at whatever
horizon, get the same outcome. Only an administrator's request changes a recorded outcome: one that
no administrator recorded or confirmed before, or with a reason for the correction. The grade that
is replaced is kept beside the new one.

Two rows of one batch with the same reference are two pupils: from then on an outcome of that
reference, session and year belongs to one prediction, named by its id, alone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Engine, Select, insert, select, update

from student_success.core.clock import now_us
from student_success.domain.references import normalise_reference
from student_success.domain.schemas.history import Outcome, OutcomesAnswer, RejectedOutcome
from student_success.storage.engine import lock_table, writing
from student_success.storage.tables import inference_logs, outcomes

logger = logging.getLogger(__name__)

_BATCH = 500
"""Outcomes per transaction; predictions are committed in between."""
_MAX_VALUES = 1000
"""Values in one condition; every database accepts this many."""

CONFIRMING_ROLE = "admin"
"""Trainings use the outcomes that this role recorded, or confirmed by recording them again."""
UNKNOWN = "not_found", "No such prediction: send a prediction_id, or session_id and reference."
REPEATED = "repeated", "This outcome is recorded already."
CONFLICT = "conflict", "Another grade is recorded for this pupil."
NOT_ALLOWED = "conflict", "Another grade is recorded: only an administrator can correct it."
AMBIGUOUS = "ambiguous", "Several pupils share this reference: send the prediction_id."

Pupil = tuple[str, str, int]
"""Session, reference and school year; the prediction id, "" and 0 if there is no reference."""


@dataclass(slots=True)
class _Predictions:
    """The predictions of the pupils in a request.

    Attributes
    ----------
    sessions
        Session of each prediction.
    pupil_of
        Pupil of each prediction.
    of_pupil
        Predictions of each pupil.
    grades
        Outcome of each prediction that has one.
    confirmed
        Predictions whose outcome an administrator recorded.
    """

    sessions: dict[str, str] = field(default_factory=dict)
    pupil_of: dict[str, Pupil] = field(default_factory=dict)
    of_pupil: dict[Pupil, list[str]] = field(default_factory=dict)
    grades: dict[str, float] = field(default_factory=dict)
    confirmed: set[str] = field(default_factory=set)
    shared: set[Pupil] = field(default_factory=set)
    _made: set[tuple[Pupil, int]] = field(default_factory=set)

    def add(self, rows: Iterable[Any], year_starts: str) -> None:
        for row in rows:
            if row.prediction_id in self.sessions:
                continue
            pupil: Pupil = (row.prediction_id, "", 0)
            if row.reference:
                reference = normalise_reference(row.reference)
                pupil = (row.session_id, reference, school_year(row.created_us, year_starts))
                # The predictions of a batch have the same time.
                if (pupil, row.created_us) in self._made:
                    self.shared.add(pupil)
                self._made.add((pupil, row.created_us))
            self.sessions[row.prediction_id] = row.session_id
            self.pupil_of[row.prediction_id] = pupil
            self.of_pupil.setdefault(pupil, []).append(row.prediction_id)
            if row.actual_grade is not None:
                self.grades[row.prediction_id] = row.actual_grade
                if row.recorded_by == CONFIRMING_ROLE:
                    self.confirmed.add(row.prediction_id)


class Outcomes:
    """Record outcomes.

    Parameters
    ----------
    engine
        Database of the history.
    year_starts
        Month and day on which a school year starts.
    """

    def __init__(self, engine: Engine, *, year_starts: str = "08-01") -> None:
        self._engine = engine
        self._year_starts = year_starts

    def record(
        self, items: Sequence[Outcome], *, recorded_by: str = CONFIRMING_ROLE
    ) -> OutcomesAnswer:
        """Record outcomes in the order given, each as if it had been sent alone.

        An outcome that another role recorded is accepted once more from an administrator, who may
        correct its grade; the replaced one is kept beside it.

        Parameters
        ----------
        recorded_by
            Role of the caller.

        Returns
        -------
        OutcomesAnswer
            How many were recorded, and why each of the others was not.

        Raises
        ------
        DatabaseUnavailableError
            If the database cannot be written. Earlier batches stay recorded: if the request is
            repeated, they are rejected as repeated and the rest is recorded.
        """
        rejected: list[RejectedOutcome] = []
        for start in range(0, len(items), _BATCH):
            part = items[start : start + _BATCH]
            rejected += self._record(part, first=start, recorded_by=recorded_by)
        return OutcomesAnswer(accepted=len(items) - len(rejected), rejected=rejected)

    def _record(
        self, items: Sequence[Outcome], *, first: int, recorded_by: str
    ) -> list[RejectedOutcome]:
        """Record a batch in one transaction; return the rejected ones, numbered from `first`."""
        rejected: list[RejectedOutcome] = []
        with writing(self._engine) as connection:
            # An erasure takes this lock too, so no outcome is added to an erased prediction.
            lock_table(connection, outcomes)
            known = _look_up(connection, items, self._year_starts)
            rows: list[dict[str, Any]] = []
            confirmed: list[str] = []
            corrected = 0
            confirms = recorded_by == CONFIRMING_ROLE
            now = now_us()
            for index, item in enumerate(items, first):
                prediction_ids, problem = _match(item, known, confirms=confirms)
                if problem is not None:
                    code, message = problem
                    rejected.append(RejectedOutcome(index=index, error=code, message=message))
                    continue
                if confirms:
                    known.confirmed.update(prediction_ids)
                replaced: list[str] = []
                for prediction_id in prediction_ids:
                    before = known.grades.get(prediction_id)
                    known.grades[prediction_id] = item.obtained
                    if before is not None:
                        confirmed.append(prediction_id)
                        if before != item.obtained:
                            replaced.append(prediction_id)
                        continue
                    rows.append(
                        {
                            "prediction_id": prediction_id,
                            "session_id": known.sessions[prediction_id],
                            "actual_grade": item.obtained,
                            "created_us": now,
                            "recorded_by": recorded_by,
                        }
                    )
                if replaced:
                    # A grade of the same request may be replaced too.
                    _insert(connection, rows)
                    _replace(connection, item, replaced, recorded_by=recorded_by, now=now)
                    corrected += len(replaced)
            _insert(connection, rows)
            for part in _chunks(confirmed):
                # Its time changes as well: a training until an earlier time did not use it.
                changed = update(outcomes).where(outcomes.c.prediction_id.in_(part))
                connection.execute(changed.values(recorded_by=recorded_by, created_us=now))
        if corrected:
            extra = {"predictions": corrected, "recorded_by": recorded_by}
            logger.info("outcomes_corrected", extra=extra)
        return rejected


def _insert(connection: Connection, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(outcomes), rows)
        rows.clear()


def _replace(
    connection: Connection, item: Outcome, ids: Sequence[str], *, recorded_by: str, now: int
) -> None:
    """Replace recorded grades; keep each beside the new one."""
    for part in _chunks(ids):
        rows = connection.execute(select(outcomes).where(outcomes.c.prediction_id.in_(part)))
        for row in rows.all():
            replaced = {
                "actual": row.actual_grade,
                "recorded_by": row.recorded_by,
                "recorded_us": row.created_us,
                "replaced_us": now,
                "reason": item.reason,
            }
            one = update(outcomes).where(outcomes.c.prediction_id == row.prediction_id)
            connection.execute(
                one.values(
                    actual_grade=item.obtained,
                    recorded_by=recorded_by,
                    created_us=now,
                    replaced_json=json.dumps([*json.loads(row.replaced_json or "[]"), replaced]),
                )
            )


def _match(
    item: Outcome, known: _Predictions, *, confirms: bool
) -> tuple[list[str], tuple[str, str] | None]:
    """Return the predictions that get, confirm or correct it, or the reason why none does."""
    pupil: Pupil | None
    if item.prediction_id is not None:
        pupil = known.pupil_of.get(item.prediction_id)
        named = [item.prediction_id]
    else:
        # A reference alone means the pupil who was predicted last.
        named_so = (item.session_id, item.reference)
        pupil = max((one for one in known.of_pupil if one[:2] == named_so), default=None)
        named = known.of_pupil[pupil] if pupil else []
    if pupil is None or not named:
        return [], UNKNOWN
    if pupil in known.shared and item.prediction_id is None:
        return [], AMBIGUOUS
    predictions = named if pupil in known.shared else known.of_pupil[pupil]
    done = known.confirmed if confirms else known.grades.keys()
    if any(id_ in done and known.grades[id_] != item.obtained for id_ in predictions):
        if item.correct and confirms:
            return predictions, None
        return [], NOT_ALLOWED if item.correct else CONFLICT
    if all(id_ in done for id_ in named):
        return [], REPEATED
    return [id_ for id_ in predictions if id_ not in done], None


def _look_up(connection: Connection, items: Sequence[Outcome], starts: str) -> _Predictions:
    """Read every prediction of every pupil in the request."""
    predictions = _Predictions()
    named = [item.prediction_id for item in items if item.prediction_id is not None]
    for part in _chunks(named):
        rows = connection.execute(_rows().where(inference_logs.c.prediction_id.in_(part)))
        predictions.add(rows, starts)
    pupils = [(session, reference) for session, reference, _ in predictions.of_pupil if reference]
    pupils += [
        (item.session_id, item.reference) for item in items if item.session_id and item.reference
    ]
    references: dict[str, set[str]] = {}
    for session_id, reference in pupils:
        references.setdefault(session_id, set()).add(reference)
    for session_id, names in references.items():
        for part in _chunks(sorted(names)):
            of_session = inference_logs.c.session_id == session_id
            rows = connection.execute(
                _rows().where(of_session, inference_logs.c.reference.in_(part))
            )
            predictions.add(rows, starts)
    return predictions


def school_year(at_us: int, starts: str) -> int:
    """Return the year in which the school year of a time (µs since 1970, UTC) began."""
    at = datetime.fromtimestamp(at_us / 1e6, UTC)
    return at.year - (f"{at:%m-%d}" < starts)


def _rows() -> Select[Any]:
    return select(
        inference_logs.c.prediction_id,
        inference_logs.c.session_id,
        inference_logs.c.reference,
        inference_logs.c.created_us,
        outcomes.c.actual_grade,
        outcomes.c.recorded_by,
    ).outerjoin(outcomes, outcomes.c.prediction_id == inference_logs.c.prediction_id)


def _chunks(values: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(values)
    while part := list(islice(iterator, _MAX_VALUES)):
        yield part
