"""Read the history for monitoring: current pupils, errors, and outcomes to learn from.

Only the newest rows are read, page by page with a pause after each, so that neither a database lock
nor the interpreter is held for long.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, case, func, select

from student_success.core.statistics import rounded
from student_success.domain.references import normalise_reference
from student_success.domain.students import Horizon
from student_success.storage.engine import reading
from student_success.storage.outcomes import CONFIRMING_ROLE, school_year
from student_success.storage.tables import inference_logs, outcomes

_PAGE = 200
_PAUSE_SECONDS = 0.01

Values = Mapping[Any, float]
"""Count of each value; numbers as numbers, categories as text."""


@dataclass(frozen=True, slots=True)
class CurrentPupils:
    """Pupils of the newest predictions, counted.

    Attributes
    ----------
    features
        Counts by feature; unknown grades are not counted.
    predictions
        Counts of the rounded predicted grades by horizon.
    """

    features: Mapping[str, Values] = field(default_factory=dict)
    predictions: Mapping[str, Values] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Live:
    """Error of the predictions of one horizon, by the grades obtained.

    Attributes
    ----------
    count
        Pupils with an outcome.
    mae
        Mean absolute error, in grades.
    coverage
        Share of outcomes within their interval, 0 to 1.
    """

    count: int
    mae: float
    coverage: float


def live(engine: Engine, *, limit: int) -> dict[str, Live]:
    """Compare the newest outcomes with what was predicted, by horizon.

    Of several predictions of a pupil with the same known grades, the last one counts.

    Parameters
    ----------
    limit
        Newest outcomes to look at.

    Raises
    ------
    DatabaseUnavailableError
        If the database cannot be read.
    """
    newest = (
        select(outcomes.c.prediction_id, outcomes.c.actual_grade)
        .order_by(outcomes.c.created_us.desc())
        .limit(limit)
        .subquery()
    )
    log = inference_logs.c
    ranked = (
        select(
            log.horizon,
            func.abs(log.predicted_grade - newest.c.actual_grade).label("error"),
            case(
                (newest.c.actual_grade.between(log.interval_low, log.interval_high), 1.0), else_=0.0
            ).label("within"),
            func.row_number()
            .over(
                partition_by=(
                    log.session_id,
                    func.coalesce(log.reference, log.prediction_id),
                    log.horizon,
                ),
                order_by=log.id.desc(),
            )
            .label("rank"),
        )
        .join(newest, newest.c.prediction_id == log.prediction_id)
        .subquery()
    )
    query = (
        select(
            ranked.c.horizon,
            func.count().label("count"),
            func.avg(ranked.c.error).label("mae"),
            func.avg(ranked.c.within).label("coverage"),
        )
        .where(ranked.c.rank == 1)
        .group_by(ranked.c.horizon)
    )
    with reading(engine) as connection:
        rows = connection.execute(query).all()
    return {row[0]: Live(int(row[1]), float(row[2]), float(row[3])) for row in rows}


def current_pupils(engine: Engine, *, limit: int, model_version: str) -> tuple[CurrentPupils, int]:
    """Count the pupils of the newest predictions, each pupil once.

    Parameters
    ----------
    limit
        Newest predictions to look at.
    model_version
        Only predictions of this version are counted: another version predicts differently.

    Returns
    -------
    tuple
        The counts, and how many predictions were looked at.

    Raises
    ------
    DatabaseUnavailableError
        If the database cannot be read.
    """
    features: dict[str, Counter[Any]] = {}
    predictions: dict[str, Counter[Any]] = {}
    pupils: set[int] = set()
    horizons_seen: set[int] = set()
    rows_read = 0
    for row in _newest(engine, limit):
        rows_read += 1
        # Hashes are enough for counting and take a tenth of the memory of the texts.
        pupil = hash((row.session_id, row.reference or row.inputs_json))
        if pupil not in pupils:
            pupils.add(pupil)
            for name, value in json.loads(row.inputs_json).items():
                if value is not None:
                    features.setdefault(name, Counter())[rounded(value)] += 1
        horizon_key = hash((pupil, row.horizon))
        if row.model_version == model_version and horizon_key not in horizons_seen:
            horizons_seen.add(horizon_key)
            predictions.setdefault(row.horizon, Counter())[rounded(row.predicted_grade)] += 1
    return CurrentPupils(features, predictions), rows_read


def _newest(engine: Engine, limit: int) -> Iterator[Any]:
    log = inference_logs.c
    query = select(
        log.id,
        log.session_id,
        log.reference,
        log.inputs_json,
        log.horizon,
        log.predicted_grade,
        log.model_version,
    ).order_by(log.id.desc())
    below: int | None = None
    while limit > 0:
        page = query.limit(min(limit, _PAGE))
        if below is not None:
            page = page.where(log.id < below)
        with reading(engine) as connection:
            rows = connection.execute(page).all()
        yield from rows
        if len(rows) < min(limit, _PAGE):
            return
        limit -= len(rows)
        below = rows[-1].id
        time.sleep(_PAUSE_SECONDS)


@dataclass(frozen=True, slots=True)
class PupilWithOutcome:
    """A pupil with the grade obtained.

    Attributes
    ----------
    inputs_json
        Features of the prediction with the most known grades; of several such, the last one.
    actual_grade
        On the scale of the profile.
    """

    inputs_json: str
    actual_grade: float


def pupils_with_outcomes(
    engine: Engine, *, since_us: int = 0, until_us: int | None = None, year_starts: str
) -> list[PupilWithOutcome]:
    """Return every pupil with an outcome that an administrator recorded or confirmed.

    They are in the order of their predictions. A pupil counts once a school year: by session and
    reference, or without one by the features.

    Parameters
    ----------
    since_us, until_us
        Only outcomes recorded after the first time and up to the second, if there is one, so that
        a repeated call returns the same pupils, except those erased since. A grade that was
        corrected after the second time counts as it was; one that was recorded before the first
        time does not count, whether it was corrected or not.
    year_starts
        Month and day on which a school year starts.

    Raises
    ------
    DatabaseUnavailableError
        If the database cannot be read.
    """
    log = inference_logs.c
    query = (
        select(
            log.session_id,
            log.reference,
            log.inputs_json,
            log.horizon,
            log.created_us,
            outcomes.c.actual_grade,
            outcomes.c.created_us.label("recorded_us"),
            outcomes.c.replaced_json,
        )
        .join(outcomes, outcomes.c.prediction_id == log.prediction_id)
        .where(outcomes.c.created_us > since_us, outcomes.c.recorded_by == CONFIRMING_ROLE)
        .order_by(log.id)
    )
    if until_us is not None:
        corrected = outcomes.c.replaced_json.is_not(None)
        query = query.where((outcomes.c.created_us <= until_us) | corrected)
    order = list(Horizon)
    best: dict[tuple[str, str, int], tuple[int, PupilWithOutcome]] = {}
    with reading(engine) as connection:
        for row in connection.execute(query):
            grade = _confirmed_grade(row, since_us, until_us)
            if grade is None:
                continue
            named = normalise_reference(row.reference) if row.reference else row.inputs_json
            pupil = row.session_id, named, school_year(row.created_us, year_starts)
            known = order.index(Horizon(row.horizon))
            if pupil not in best or known >= best[pupil][0]:
                best[pupil] = known, PupilWithOutcome(row.inputs_json, grade)
    return [pupil for _, pupil in best.values()]


def _confirmed_grade(row: Any, since_us: int, until_us: int | None) -> float | None:
    """Return the last grade of an administrator up to a time; None if one was before another."""
    grades = [
        # Older entries do not have their time: they count as recorded long ago.
        (entry.get("recorded_us", 1), entry["actual"])
        for entry in json.loads(row.replaced_json or "[]")
        if entry["recorded_by"] == CONFIRMING_ROLE
    ]
    grades.append((row.recorded_us, row.actual_grade))
    if grades[0][0] <= since_us:
        return None
    return next((g for at, g in reversed(grades) if until_us is None or at <= until_us), None)


def unconfirmed_outcomes(engine: Engine, *, until_us: int) -> int:
    """Count the predictions up to a time whose outcome no administrator recorded."""
    role = func.coalesce(outcomes.c.recorded_by, "")
    query = select(func.count()).where(outcomes.c.created_us <= until_us, role != CONFIRMING_ROLE)
    with reading(engine) as connection:
        return int(connection.execute(query).scalar_one())
