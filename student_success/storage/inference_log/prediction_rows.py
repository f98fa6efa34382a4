"""One row of the inference log: its columns, the insert, and its form in `GET /history`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Engine, select

from student_success.core.clock import iso
from student_success.core.errors import DatabaseUnavailableError
from student_success.domain.students import ACTUAL, PREDICTED, SCALE, StudentFeatures
from student_success.model.prediction import Prediction
from student_success.storage.engine import writing
from student_success.storage.tables import inference_logs

_ROWS_PER_STATEMENT = 64
_ROWS_PER_TRANSACTION = 512
_REFERENCE = {"reference"}


class PredictionRow(NamedTuple):
    """One prediction; the fields are the columns of `inference_logs`.

    Attributes
    ----------
    created_us
        Microseconds since 1970.
    inputs_json
        The pupil's features as JSON, without the reference.
    predicted_grade, interval_low, interval_high
        Grades on the scale of the profile.
    interval_level
        Share of grades that the interval is made to hold, 0 to 1.
    """

    prediction_id: str
    session_id: str
    created_us: int
    inputs_json: str
    reference: str | None
    predicted_grade: float
    decision: str
    pass_probability: float
    interval_low: float
    interval_high: float
    interval_level: float
    horizon: str
    at_risk: bool
    model_version: str


COLUMNS = PredictionRow._fields


def _number(grade: float | None) -> float | None:
    """Return a grade that exists as requests and answers write it; columns hold any number."""
    return grade if grade is None or not SCALE.is_whole else round(grade)


def row_of(
    student: StudentFeatures,
    prediction: Prediction,
    *,
    prediction_id: str,
    session_id: str,
    now: int,
    interval_level: float,
    model_version: str,
) -> PredictionRow:
    """Return the row that records a prediction.

    Parameters
    ----------
    now
        Microseconds since 1970.
    """
    return PredictionRow(
        prediction_id=prediction_id,
        session_id=session_id,
        created_us=now,
        inputs_json=student.__pydantic_serializer__.to_json(student, exclude=_REFERENCE).decode(),
        reference=student.reference,
        predicted_grade=prediction.grade,
        decision=prediction.decision.value,
        pass_probability=prediction.pass_probability,
        interval_low=prediction.low,
        interval_high=prediction.high,
        interval_level=interval_level,
        horizon=prediction.horizon.value,
        at_risk=prediction.at_risk,
        model_version=model_version,
    )


def commit_missing(engine: Engine, rows: Sequence[PredictionRow]) -> None:
    """Commit those rows of which the prediction id is not there yet.

    Many short transactions, so that other writers do not wait long. After a failure, call it again
    with the same rows.

    Raises
    ------
    DatabaseUnavailableError
        If they cannot be committed.
    """
    column, insert = inference_logs.c.prediction_id, PredictionInsert(engine)
    for start in range(0, len(rows), _ROWS_PER_TRANSACTION):
        part = rows[start : start + _ROWS_PER_TRANSACTION]
        with writing(engine) as connection:
            ids = [row.prediction_id for row in part]
            known = set(connection.scalars(select(column).where(column.in_(ids))))
            missing = [row for row in part if row.prediction_id not in known]
            try:
                insert.insert(connection.connection.cursor(), missing)
            except insert.driver_error as error:
                raise DatabaseUnavailableError("The predictions could not be recorded.") from error


def public(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a row of `inference_logs` with its outcome as `GET /history` shows it."""
    replaced = [
        {
            ACTUAL: _number(grade["actual"]),
            "recorded_by": grade["recorded_by"],
            "replaced_at": iso(grade["replaced_us"]),
            "reason": grade["reason"],
        }
        for grade in json.loads(row.get("replaced_json") or "[]")
    ]
    return {
        "id": row["id"],
        "prediction_id": row["prediction_id"],
        "session_id": row["session_id"],
        "timestamp": iso(row["created_us"]),
        "inputs_json": json.loads(row["inputs_json"]),
        "reference": row["reference"],
        PREDICTED: row["predicted_grade"],
        "decision": row["decision"],
        "pass_probability": row["pass_probability"],
        "interval": {
            "low": _number(row["interval_low"]),
            "high": _number(row["interval_high"]),
            "level": row["interval_level"],
        },
        "horizon": row["horizon"],
        "at_risk": bool(row["at_risk"]),
        "model_version": row["model_version"],
        ACTUAL: _number(row["actual_grade"]),
        **({"replaced": replaced} if replaced else {}),
    }


class PredictionInsert:
    """Insert rows through the database driver, with statements compiled once.

    SQLAlchemy's own work around a transaction holds the interpreter for longer than the database
    takes to commit.
    """

    def __init__(self, engine: Engine) -> None:
        self._sqlite = engine.dialect.name == "sqlite"
        self.driver_error: type[Exception] = engine.dialect.loaded_dbapi.Error
        self._copy = f"COPY {inference_logs.name} ({', '.join(COLUMNS)}) FROM STDIN"
        # In the order of the fields, which need not be that of the table's columns.
        self._head = f"INSERT INTO {inference_logs.name} ({', '.join(COLUMNS)}) VALUES "  # noqa: S608 -- names of columns, no values
        self._placeholders = f"({', '.join('?' * len(COLUMNS))})"
        self._statements: dict[int, str] = {}

    def commit(self, connection: Any, rows: Sequence[PredictionRow]) -> None:
        """Insert rows in one transaction on a driver connection and commit it."""
        cursor = connection.cursor()
        if self._sqlite:
            # The driver of PostgreSQL begins the transaction itself.
            cursor.execute("BEGIN IMMEDIATE")
        try:
            self.insert(cursor, rows)
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        finally:
            cursor.close()

    def insert(self, cursor: Any, rows: Sequence[PredictionRow]) -> None:
        """Insert rows, many with each statement.

        On PostgreSQL `COPY` holds the interpreter for a third of the time of inserts.
        """
        if not self._sqlite:
            with cursor.copy(self._copy) as copy:
                for row in rows:
                    copy.write_row(row)
            return
        for start in range(0, len(rows), _ROWS_PER_STATEMENT):
            part = rows[start : start + _ROWS_PER_STATEMENT]
            cursor.execute(self._statement(len(part)), [value for row in part for value in row])

    def _statement(self, count: int) -> str:
        statement = self._statements.get(count)
        if statement is None:
            statement = self._head + ", ".join([self._placeholders] * count)
            self._statements[count] = statement
        return statement
