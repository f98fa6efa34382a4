"""Add pupils of the history whose final grade is known to the training data."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from pydantic import ValidationError

from student_success.core.clock import iso, now_us
from student_success.core.configuration.settings import Settings
from student_success.domain.students import (
    FEATURE_NAMES,
    PERIODS,
    SCALE,
    TARGET,
    StudentFeatures,
)
from student_success.storage import observations
from student_success.storage.engine import connect
from student_success.storage.migrate import migrate
from student_success.storage.observations import PupilWithOutcome
from training.data.dataset import COLUMNS, Dataset, content_sha256, load

logger = logging.getLogger(__name__)

_WITHOUT_GRADES = tuple(name for name in FEATURE_NAMES if name not in PERIODS)
_KNOWN = tuple(PERIODS[:count] for count in range(len(PERIODS) + 1))
"""The period grades that a prediction may have known."""


def load_with_outcomes(settings: Settings, *, until_us: int | None = None) -> Dataset:
    """Read the data that a training uses, and add the pupils whose outcome is known.

    Parameters
    ----------
    until_us
        Only use outcomes recorded until then; until now if None.

    Raises
    ------
    DatasetError
        If the file is missing, cannot be read, is too small, or has bad cells.
    DatabaseUnavailableError
        If the history cannot be read.
    """
    until = now_us() if until_us is None else until_us
    migrate(settings.database, state_dir=settings.state_dir)
    engine = connect(settings.database)
    try:
        pupils = observations.pupils_with_outcomes(
            engine, until_us=until, year_starts=settings.school_year_starts
        )
        unconfirmed = observations.unconfirmed_outcomes(engine, until_us=until)
    finally:
        engine.dispose()
    data = add(load(settings), pupils, until_us=until)
    if not unconfirmed:
        return data
    remark = (
        f"Final grades that were left out, because no administrator recorded them: {unconfirmed}. "
        "Check them and record them again with the administrator's token."
    )
    return replace(data, remarks=(*data.remarks, remark))


def load_again(settings: Settings, described: Mapping[str, Any]) -> Dataset:
    """Read the data that a version was trained on again, as far as it still exists.

    Parameters
    ----------
    described
        Result of `Dataset.describe` at the time of the training.
    """
    known = described.get("outcomes")
    if known is None:
        return load(settings)
    return load_with_outcomes(settings, until_us=int(known["until_us"]))


def add(data: Dataset, pupils: Sequence[PupilWithOutcome], *, until_us: int) -> Dataset:
    """Add pupils of the history to a dataset; its name, hash and size change.

    A pupil who is in the dataset already is not added again: with a copy on each side of a fold, a
    model would be tested on a pupil that it was fitted on. Audit columns of added pupils are empty.
    """
    existing = set(_keys(data.frame))
    copies = 0
    rows: list[dict[str, Any]] = []
    for pupil in pupils:
        try:
            student = StudentFeatures.model_validate_json(pupil.inputs_json)
        except ValidationError:
            # The bounds of the features have changed since the prediction.
            logger.warning("outcome_not_learnt_from")
            continue
        if not SCALE.has(pupil.actual_grade):
            # The scale has changed since the grade was recorded.
            logger.warning("outcome_not_learnt_from")
            continue
        row = {name: getattr(student, name) for name in FEATURE_NAMES}
        row[TARGET] = float(pupil.actual_grade)
        known = tuple(name for name in PERIODS if row[name] is not None)
        if (key := _key(row, known)) in existing:
            copies += 1
            continue
        existing.add(key)
        rows.append(row)
    added = pd.DataFrame(rows, columns=list(COLUMNS)).astype(data.frame.dtypes.to_dict())
    empty = pd.DataFrame("", index=added.index, columns=data.audit.columns, dtype=object)
    content = content_sha256(added.to_dict("records"))
    return replace(
        data,
        frame=pd.concat([data.frame, added], ignore_index=True),
        audit=pd.concat([data.audit, empty.astype(str)], ignore_index=True),
        name=f"{data.name} + outcomes",
        sha256=hashlib.sha256(f"{data.sha256}\n{content}".encode()).hexdigest(),
        rows=data.rows + len(added),
        copies=data.copies + copies,
        outcomes={
            "rows": len(added),
            "share": round(len(added) / (data.rows + len(added)), 4),
            "known": len(pupils),
            "until": iso(until_us),
            "until_us": until_us,
            "file_sha256": data.sha256,
        },
    )


def _keys(frame: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    """Yield the keys under which a pupil of the table may occur in the history."""
    for row in frame.to_dict("records"):
        for known in _KNOWN:
            yield _key(row, known)


def _key(row: Mapping[Any, Any], known: Sequence[str]) -> tuple[Any, ...]:
    values = (row[name] for name in (*_WITHOUT_GRADES, *known, TARGET))
    # The table has NaN for what is not known, which does not equal itself.
    return tuple(None if value != value else value for value in values)
